#pragma once
// Unicode properties of UTF-8 text, over utf8proc: normal forms for comparing names, and widths for aligning
// columns. text.h checks and decodes UTF-8 itself.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::base {

/// Unicode's normal form C: letters with accents are one character where there is one. Nothing when `text` is
/// not UTF-8.
[[nodiscard]] std::optional<std::string> to_nfc(std::string_view text);

/// Returns the form that all names have in common which file systems take for one name, because they ignore
/// case or the difference between composed and decomposed letters: case folding, then normal form C
/// (Unicode 15, D145). Nothing when `text` is not UTF-8.
[[nodiscard]] std::optional<std::string> fold_case(std::string_view text);

/// The number of columns that the text takes on a terminal: 2 for East Asian wide characters, 0 for combining
/// marks, 1 for the replacement character that is shown for a malformed byte.
[[nodiscard]] std::size_t display_columns(std::string_view text);

}  // namespace sluice::base
