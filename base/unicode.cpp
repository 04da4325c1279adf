// utf8proc behind three functions. UTF8PROC_STABLE keeps to normal forms that later Unicode versions do not
// change, since names are compared between machines.

#include "base/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/text.h"

namespace sluice::base {
namespace {

std::optional<std::string> map(std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &mapped, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | options));
  // utf8proc allocates the result with malloc().
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length));
}

std::string encode(utf8proc_int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(code_point, bytes);
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length)};
}

using CaseMapping = utf8proc_int32_t (*)(utf8proc_int32_t);

// A character whose case folding is several characters has no single upper case: each of those is mapped, and
// for titles the first alone.
std::string special_case(char32_t code_point, CaseMapping mapping) {
  const auto character = static_cast<utf8proc_int32_t>(code_point);
  utf8proc_int32_t folded[8];
  int boundclass = 0;
  const auto count = utf8proc_decompose_char(character, folded, 8, UTF8PROC_CASEFOLD, &boundclass);
  if (count <= 1 || count > 8 || utf8proc_category(character) == UTF8PROC_CATEGORY_LU)
    return encode(mapping(character));
  std::string text;
  for (int i = 0; i < count; ++i)
    text += encode(mapping == &utf8proc_totitle && i > 0 ? folded[i] : mapping(folded[i]));
  return text;
}

}  // namespace

std::optional<std::string> to_nfc(std::string_view text) { return map(text, 0); }

std::optional<std::string> fold_case(std::string_view text) { return map(text, UTF8PROC_CASEFOLD); }

bool is_printable(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return code_point == U' ';
    default: return true;
  }
}

LetterCase letter_case(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LL: return LetterCase::lower;
    case UTF8PROC_CATEGORY_LU: return LetterCase::upper;
    case UTF8PROC_CATEGORY_LT: return LetterCase::title;
    default: return LetterCase::none;
  }
}

CharacterClass character_class(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return CharacterClass::letter;
    case UTF8PROC_CATEGORY_ND: return CharacterClass::decimal;
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return CharacterClass::other_number;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_SK: return CharacterClass::ignorable_for_case;
    default: return CharacterClass::other;
  }
}

std::string upper_case(char32_t code_point) { return special_case(code_point, &utf8proc_toupper); }
std::string title_case(char32_t code_point) { return special_case(code_point, &utf8proc_totitle); }

std::string lower_case(char32_t code_point) {
  if (code_point == U'\u0130') return "i\u0307";  // the one letter whose lower case is two characters
  return encode(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

std::size_t display_columns(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const int length = utf8_length(text);
    if (length <= 0) {
      ++columns;
      text.remove_prefix(1);
      continue;
    }
    const auto character = text.substr(0, static_cast<std::size_t>(length));
    columns +=
        static_cast<std::size_t>(utf8proc_charwidth(static_cast<utf8proc_int32_t>(decode_utf8(character))));
    text.remove_prefix(character.size());
  }
  return columns;
}

}  // namespace sluice::base
