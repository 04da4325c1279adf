#pragma once
// Splits the bytes of a pickle into opcodes and arguments for a scan, which must not throw: at the end of the
// bytes it returns nothing and sets problem(), which ends the scan. (PickleStream, for reading, throws
// instead.)

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "base/ascii.h"
#include "base/bytes.h"

namespace sluice::format {

class PickleScanStream final {
 public:
  PickleScanStream(base::Bytes bytes, std::size_t start) : bytes_(bytes), offset_(start) {}

  [[nodiscard]] std::size_t offset_bytes() const { return offset_; }
  /// The first problem; empty while there is none.
  [[nodiscard]] const std::string& problem() const { return problem_; }

  void fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }

  static constexpr std::uint64_t kNoNumber = std::numeric_limits<std::uint64_t>::max();

  base::Bytes take(std::uint64_t count) {
    if (count > bytes_.size() - offset_) {
      fail("it is cut off at offset " + std::to_string(bytes_.size()));
      offset_ = bytes_.size();
      return {};
    }
    const base::Bytes taken = bytes_.subspan(offset_, static_cast<std::size_t>(count));
    offset_ += static_cast<std::size_t>(count);
    return taken;
  }

  template <typename T>
  T number() {
    const base::Bytes taken = take(sizeof(T));
    return taken.size() == sizeof(T) ? base::load_le<T>(taken) : T{};
  }

  template <typename T>
  std::string_view counted() {
    const T count = number<T>();
    return base::as_text(take(count));
  }

  template <typename T>
  void skip_counted() {
    const T count = number<T>();
    take(count);
  }

  std::string_view line() {
    // Lines may have any length, as in Python: the scan goes on behind a line or ends, so no byte is searched
    // twice.
    const std::string_view rest = base::as_text(bytes_.subspan(offset_));
    const std::size_t length = rest.find('\n');
    if (length == std::string_view::npos) {
      take(rest.size() + 1);
      return {};
    }
    offset_ += length + 1;
    return rest.substr(0, length);
  }

  /// A line with a decimal number; kNoNumber for any other line.
  std::uint64_t line_number() { return base::parse_uint(line()).value_or(kNoNumber); }

 private:
  base::Bytes bytes_;
  std::size_t offset_;
  std::string problem_;
};

}  // namespace sluice::format
