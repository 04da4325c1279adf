#pragma once
// Random Unicode text, in which the characters that tokenizers treat apart are frequent.

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace sluice::tests {

/// A code point in UTF-8; no surrogate.
[[nodiscard]] inline std::string utf8_of(std::uint32_t code_point) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (code_point < 0x80) return {byte(code_point)};
  const char last = byte(0x80 | (code_point & 0x3F));
  if (code_point < 0x800) return {byte(0xC0 | code_point >> 6), last};
  const char third = byte(0x80 | (code_point >> 6 & 0x3F));
  if (code_point < 0x10000) return {byte(0xE0 | code_point >> 12), third, last};
  return {byte(0xF0 | code_point >> 18), byte(0x80 | (code_point >> 12 & 0x3F)), third, last};
}

/// A random code point, never a surrogate, in UTF-8.
[[nodiscard]] inline std::string random_character(std::mt19937& random) {
  constexpr std::array<std::uint32_t, 4> kEnds = {0x500, 0x3100, 0x10000, 0x110000};
  std::uint32_t code_point = 0;
  do {
    code_point = static_cast<std::uint32_t>(random()) % kEnds[random() % kEnds.size()];
  } while (code_point >= 0xD800 && code_point < 0xE000);
  return utf8_of(code_point);
}

/// UTF-8 text of up to `parts_max` parts.
[[nodiscard]] inline std::string random_text(std::mt19937& random, std::size_t parts_max) {
  constexpr std::array<std::string_view, 96> kParts = {
      "a",      "b",      "c",      "e",       "h",
      "l",      "s",      "t",      "A",       "B",
      "S",      "T",      "Z",      "word",    " the",
      " ",      " ",      "  ",     "\t",      "\n",
      "\r",     "\r\n",   "\n\n",   "'",       "'s",
      "'S",     "'ſ",     "'re",    "'LL",     "'ll",
      "'d",     "'T",     "'vE",    "'m",      "0",
      "1",      "23",     "4567",   ".",       ",",
      "!",      "?",      "/",      "-",       "_",
      "<",      ">",      "|",      "[",       "]",
      "(",      "$",      "+",      "=",       "^",
      "`",      "~",      "\\",     "\"",      "#",
      "é",      "É",      "\u0301", "\u0323",  "ǅ",
      "ʰ",      "ª",      "中",     "文",      "の",
      "カ",     "\u3099", "が",     "한",      "\u1112\u1161\u11AB",
      "\u11A8", "٣",      "½",      "Ⅷ",       "\u200D",
      "\u200B", "\uFEFF", "\u00A0", "\u2003",  "\u3000",
      "\u0085", "\u2028", "😀",      "ß",       "\u212B",
      "Ω",      "א",      "ب",      "क\u094D", "\u0344",
      "\u001C"};
  std::string text;
  for (std::size_t count = random() % (parts_max + 1); count > 0; --count)
    text += random() % 12 == 0 ? random_character(random) : std::string(kParts[random() % kParts.size()]);
  return text;
}

}  // namespace sluice::tests
