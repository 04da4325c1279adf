#include "text/values/unicode.h"

#include "base/text.h"

namespace sluice::text::jinja {
namespace {

bool is_space(char32_t character) {
  return (character >= 0x09 && character <= 0x0D) || (character >= 0x1C && character <= 0x20) ||
         character == 0x85 || character == 0xA0 || character == 0x1680 ||
         (character >= 0x2000 && character <= 0x200A) || character == 0x2028 || character == 0x2029 ||
         character == 0x202F || character == 0x205F || character == 0x3000;
}

}  // namespace

std::size_t space_length(std::string_view text) {
  const int bytes = text.empty() ? 0 : base::utf8_length(text);
  if (bytes <= 0) return 0;
  const auto character = text.substr(0, static_cast<std::size_t>(bytes));
  return is_space(base::decode_utf8(character)) ? character.size() : 0;
}

std::size_t last_space_length(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0) {
    --begin;
    if ((text[begin] & 0xC0) != 0x80) break;
  }
  return space_length(text.substr(begin));
}

std::size_t line_end_length(std::string_view text) {
  if (text.empty()) return 0;
  if (text.starts_with("\r\n")) return 2;
  const auto byte = static_cast<unsigned char>(text[0]);
  if ((byte >= 0x0A && byte <= 0x0D) || (byte >= 0x1C && byte <= 0x1E)) return 1;
  if (text.starts_with("\u0085")) return 2;
  if (text.starts_with("\u2028") || text.starts_with("\u2029")) return 3;
  return 0;
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto continuation = [&](int shift) {
    text += static_cast<char>(0x80 | ((code_point >> shift) & 0x3F));
  };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
    return;
  }
  if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | (code_point >> 6));
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | (code_point >> 12));
    continuation(6);
  } else {
    text += static_cast<char>(0xF0 | (code_point >> 18));
    continuation(12);
    continuation(6);
  }
  continuation(0);
}

}  // namespace sluice::text::jinja
