#pragma once
// The elements that the three file formats of signature.h share: lines, comments, and records in base64.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

constexpr std::string_view kUntrustedComment = "untrusted comment: ";
constexpr std::string_view kKeyAlgorithm = "Ed";

/// The lines without their line ends. Error{malformed} unless there are `count`.
[[nodiscard]] std::vector<std::string_view> split_lines(std::string_view text, std::size_t count,
                                                        std::string_view subject);

/// The text after `prefix` in a comment line. `number` is the line's number, from 1.
[[nodiscard]] std::string_view comment_of(std::string_view line, std::size_t number, std::string_view prefix,
                                          std::string_view subject);

/// The bytes that a base64 line holds. Error messages never show them, since they may be secret.
[[nodiscard]] std::vector<std::byte> record_of(std::string_view line, std::size_t number, std::size_t bytes,
                                               std::string_view subject);

/// Error{malformed} unless the record has `expected` at `offset`.
void require_mark(Bytes record, std::size_t offset, std::string_view expected, std::string_view what,
                  std::string_view subject);

/// Reads the fields of a record in order.
class RecordReader {
 public:
  explicit RecordReader(Bytes record) : rest_(record) {}

  void read(MutableBytes out);
  [[nodiscard]] std::uint64_t read_uint();
  void skip(std::size_t bytes) { rest_ = rest_.subspan(bytes); }

 private:
  Bytes rest_;
};

void append(std::vector<std::byte>& record, Bytes field);

}  // namespace sluice::base
