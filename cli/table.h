#pragma once
// A table of text for people: each column is as wide as its widest cell, with two spaces between columns.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice::cli {

class Table {
 public:
  /// Columns listed in `right_aligned` hold numbers.
  explicit Table(std::vector<std::size_t> right_aligned = {}) : right_aligned_(std::move(right_aligned)) {}

  /// Control characters of the cells, line ends among them, become U+FFFD: cells hold names and texts from
  /// files.
  void add_row(std::vector<std::string> cells);
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// All rows, each with a line end.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::size_t> right_aligned_;
  std::vector<std::vector<std::string>> rows_;
};

/// printf with one number: format_number("%.1f", 2.04) -> "2.0".
[[nodiscard]] std::string format_number(const char* format, double number);

/// 46702792704 -> "46,702,792,704"
[[nodiscard]] std::string with_commas(std::uint64_t number);

}  // namespace sluice::cli
