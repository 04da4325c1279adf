#pragma once
// Unicode properties of UTF-8 text, over utf8proc: normal forms for comparing names, and widths for aligning
// columns. text.h checks and decodes UTF-8 itself.

#include <cstddef>
#include <cstdint>
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

/// Python's str.isprintable() for a character: no control, format, surrogate, private or unassigned
/// character, and no separator but the space.
[[nodiscard]] bool is_printable(char32_t code_point);

enum class LetterCase : std::uint8_t { none, lower, upper, title };
/// The case of a letter by its general category (Ll, Lu, Lt).
[[nodiscard]] LetterCase letter_case(char32_t code_point);

enum class CharacterClass : std::uint8_t {
  letter,              ///< general category L
  decimal,             ///< Nd
  other_number,        ///< Nl, No
  ignorable_for_case,  ///< Mn, Me, Cf, Sk
  other,
};
[[nodiscard]] CharacterClass character_class(char32_t code_point);

/// The text in upper case, lower case, or with the upper case of titles (Unicode 15, D140 ff.): SpecialCasing
/// without its language rules.
[[nodiscard]] std::string upper_case(char32_t code_point);
[[nodiscard]] std::string lower_case(char32_t code_point);
[[nodiscard]] std::string title_case(char32_t code_point);

/// The number of columns that the text takes on a terminal: 2 for East Asian wide characters, 0 for combining
/// marks, 1 for the replacement character that is shown for a malformed byte.
[[nodiscard]] std::size_t display_columns(std::string_view text);

}  // namespace sluice::base
