#include "cli/styled_text.h"

#include <algorithm>

#include "base/text.h"

namespace sluice::cli {
namespace {

// SGR parameters of a colour: 30 to 37 for the first eight, else 38;5;N (40 to 47 and 48;5;N as background).
std::string color_parameters(int base, std::uint8_t color) {
  if (color < 8) return std::to_string(base + color);
  return std::to_string(base + 8) + ";5;" + std::to_string(color);
}

std::string begin_sequence(const Style& style) {
  std::string parameters;
  if (style.background) parameters = color_parameters(40, *style.background);
  if (style.foreground)
    parameters += (parameters.empty() ? "" : ";") + color_parameters(30, *style.foreground);
  return parameters.empty() ? "" : "\x1b[" + parameters + "m";
}

}  // namespace

std::string to_printable_lines(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t plain = std::min(text.find_first_of("\n\t"), text.size());
    shown += base::to_printable(text.substr(0, plain));
    if (plain < text.size()) shown += text[plain];
    text.remove_prefix(std::min(plain + 1, text.size()));
  }
  return shown;
}

StyledText& StyledText::add(std::string_view text, Style style) {
  pieces_.push_back({std::string(text), style});
  return *this;
}

std::string StyledText::render(bool color) const {
  std::string line;
  for (const Piece& piece : pieces_) {
    const std::string begin = color ? begin_sequence(piece.style) : std::string();
    line += begin + base::to_printable(piece.text) + (begin.empty() ? "" : "\x1b[0m");
  }
  return line;
}

}  // namespace sluice::cli
