#include "text/characters.h"

#include <utf8proc.h>

#include "base/text.h"

namespace sluice::text {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

// The property White_Space (Unicode 15, PropList.txt) beyond ASCII. utf8proc has categories alone.
bool is_white_space(char32_t code_point) {
  switch (code_point) {
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000: return true;
    default:
      return (code_point >= 0x09 && code_point <= 0x0D) || code_point == ' ' ||
             (code_point >= 0x2000 && code_point <= 0x200A);
  }
}

CharacterClass class_of_category(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return CharacterClass::upper;
    case UTF8PROC_CATEGORY_LL: return CharacterClass::lower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return CharacterClass::letter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return CharacterClass::mark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return CharacterClass::number;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return CharacterClass::punctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return CharacterClass::symbol;
    default: return CharacterClass::other;
  }
}

}  // namespace

CharacterClass class_of(char32_t code_point) {
  if (code_point == '\r' || code_point == '\n') return CharacterClass::newline;
  if (is_white_space(code_point)) return CharacterClass::space;
  return class_of_category(utf8proc_category(static_cast<utf8proc_int32_t>(code_point)));
}

const std::array<CharacterClass, 128> kAsciiClasses = [] {
  std::array<CharacterClass, 128> table{};
  for (std::size_t byte = 0; byte < table.size(); ++byte) table[byte] = class_of(static_cast<char32_t>(byte));
  return table;
}();

Character long_character(std::string_view text) {
  const int length = base::utf8_length(text);
  if (length <= 0) return {kReplacement, 1, CharacterClass::symbol};
  const char32_t code_point = base::decode_utf8(text.substr(0, static_cast<std::size_t>(length)));
  return {code_point, static_cast<std::uint8_t>(length), class_of(code_point)};
}

// Alphabetic, M, Nd, Pc and Join_Control. Alphabetic is L, Nl and Other_Alphabetic; of the latter only the
// circled and squared letters below are not in M (Unicode 15, PropList.txt).
bool is_word_character(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
  }
  const auto between = [&](char32_t low, char32_t high) { return code_point >= low && code_point <= high; };
  if (between(0x200C, 0x200D) || between(0x24B6, 0x24E9) || between(0x1F130, 0x1F149) ||
      between(0x1F150, 0x1F169) || between(0x1F170, 0x1F189))
    return true;
  const auto bit = static_cast<unsigned>(class_of(code_point));
  return ((kLetters | kMarks) >> bit & 1U) != 0;
}

}  // namespace sluice::text
