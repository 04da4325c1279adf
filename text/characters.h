#pragma once
// The characters of a text and their Unicode classes, as the patterns of pre-tokenizers ask for them.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::text {

/// Every character is of exactly one class. Names of general categories as in Unicode, chapter 4.5.
enum class CharacterClass : std::uint8_t {
  other,        ///< C except for white space: controls, format characters, unassigned and private ones
  upper,        ///< Lu, Lt
  lower,        ///< Ll
  letter,       ///< Lm, Lo
  mark,         ///< M
  number,       ///< N
  punctuation,  ///< P
  symbol,       ///< S; also each byte that is part of no UTF-8 character, which many show as U+FFFD
  newline,      ///< CR, LF
  space,        ///< every other character with the property White_Space
};

/// A set of classes.
using ClassSet = std::uint16_t;

template <typename... Classes>
[[nodiscard]] constexpr ClassSet classes(Classes... members) {
  return static_cast<ClassSet>(((1U << static_cast<unsigned>(members)) | ...));
}
[[nodiscard]] constexpr ClassSet all_but(ClassSet set) { return static_cast<ClassSet>(~set & 0x3FFU); }

constexpr ClassSet kLetters = classes(CharacterClass::upper, CharacterClass::lower, CharacterClass::letter);
constexpr ClassSet kMarks = classes(CharacterClass::mark);
constexpr ClassSet kNumbers = classes(CharacterClass::number);
constexpr ClassSet kNewlines = classes(CharacterClass::newline);
constexpr ClassSet kWhiteSpace = classes(CharacterClass::newline, CharacterClass::space);

struct Character {
  char32_t code_point = 0;  ///< U+FFFD for a byte that is part of no UTF-8 character
  std::uint8_t length_bytes = 0;
  CharacterClass kind = CharacterClass::other;

  [[nodiscard]] bool is_in(ClassSet set) const { return (set >> static_cast<unsigned>(kind) & 1U) != 0; }
};

[[nodiscard]] CharacterClass class_of(char32_t code_point);

/// character_at() for text that does not begin with an ASCII character.
[[nodiscard]] Character long_character(std::string_view text);

/// The classes of the ASCII characters.
extern const std::array<CharacterClass, 128> kAsciiClasses;

/// The character that begins at `at`, which must be within the text.
[[nodiscard]] inline Character character_at(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {byte, 1, kAsciiClasses[byte]};
  return long_character(text.substr(at));
}

/// The end of the run of characters of `set` that begins at `at`; `at` where there is none.
[[nodiscard]] inline std::size_t run_end(std::string_view text, std::size_t at, ClassSet set) {
  while (at < text.size()) {
    const Character character = character_at(text, at);
    if (!character.is_in(set)) break;
    at += character.length_bytes;
  }
  return at;
}

/// True for the characters that \w matches in Rust's regular expressions (UTS #18, annex C).
[[nodiscard]] bool is_word_character(char32_t code_point);

}  // namespace sluice::text
