#include "cli/table.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

#include "base/text.h"
#include "base/unicode.h"

namespace sluice::cli {

void Table::add_row(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = base::to_printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  // Widths are counted in columns of the terminal and not in bytes: a character may take several bytes, and
  // up to two columns.
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], base::display_columns(row[i]));
  }
  std::string text;
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - base::display_columns(row[i]), ' ');
      const bool right = std::ranges::find(right_aligned_, i) != right_aligned_.end();
      if (right) text += padding;
      text += row[i];
      // The last cell of a row gets no spaces behind it.
      if (i + 1 == row.size()) break;
      if (!right) text += padding;
      text += "  ";
    }
    text += '\n';
  }
  return text;
}

std::string format_number(const char* format, double number) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, number);
  return buffer.data();
}

std::string with_commas(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

}  // namespace sluice::cli
