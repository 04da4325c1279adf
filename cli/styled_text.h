#pragma once
// Text for people in pieces, each with a style. Whatever the pieces hold, only the styles reach a terminal as
// control sequences: rendering escapes all control characters of the text itself.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

/// Colours as numbers of the xterm palette; the first eight exist on every terminal with colours.
struct Style {
  std::optional<std::uint8_t> foreground = {};
  std::optional<std::uint8_t> background = {};
};

constexpr Style kPlain{};
constexpr Style kBad{.foreground = 1};      // red
constexpr Style kGood{.foreground = 2};     // green
constexpr Style kWarning{.foreground = 3};  // yellow

/// `text` with everything replaced by U+FFFD that base::to_printable() replaces, except newlines and tabs.
[[nodiscard]] std::string to_printable_lines(std::string_view text);

/// One line. A plain text converts to it by itself.
class StyledText final {
 public:
  StyledText() = default;
  StyledText(const char* text) : StyledText(std::string_view(text)) {}
  StyledText(const std::string& text) : StyledText(std::string_view(text)) {}
  StyledText(std::string_view text) { add(text); }
  StyledText(std::string_view text, Style style) { add(text, style); }

  StyledText& add(std::string_view text, Style style = kPlain);

  /// The line without its end. Control characters of the text, line ends among them, become U+FFFD: a name
  /// from a file can neither control the terminal nor begin a line of its own. `color`: with the styles, as
  /// sequences of ECMA-48 (SGR).
  [[nodiscard]] std::string render(bool color) const;

 private:
  struct Piece {
    std::string text;
    Style style;
  };
  std::vector<Piece> pieces_;
};

}  // namespace sluice::cli
