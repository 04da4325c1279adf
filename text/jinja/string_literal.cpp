// Escapes in the strings of a template. Jinja reads them with Python's codec unicode-escape after it has
// written characters beyond ASCII as escapes, too; so a backslash before such a character leaves that
// escape's own text behind.

#include <string>

#include "base/ascii.h"
#include "base/text.h"
#include "text/jinja/parser.h"
#include "text/values/unicode.h"

namespace sluice::text::jinja {
namespace {

class Unescaper {
 public:
  Unescaper(std::string_view text, const TokenStream& stream, std::uint32_t line)
      : text_(text), stream_(stream), line_(line) {}

  std::string run() {
    while (!text_.empty()) {
      if (text_[0] != '\\') {
        const std::size_t bytes = std::min(text_.find('\\'), text_.size());
        result_ += text_.substr(0, bytes);
        text_.remove_prefix(bytes);
      } else {
        text_.remove_prefix(1);
        read_escape();
      }
    }
    return std::move(result_);
  }

 private:
  // A backslash never ends a string, because it would escape the quote.
  void read_escape() {
    const char letter = text_[0];
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t index = kLetters.find(letter); index != std::string_view::npos) {
      result_ += kMeanings[index];
      text_.remove_prefix(1);
    } else if (letter == '\n') {
      text_.remove_prefix(1);
    } else if (letter >= '0' && letter <= '7') {
      read_octal();
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      text_.remove_prefix(1);
      read_hexadecimal(letter == 'x' ? 2 : letter == 'u' ? 4 : 8);
    } else if (letter == 'N') {
      stream_.fail(line_, "the escape \\N in a string is not supported");
    } else if (static_cast<unsigned char>(letter) >= 0x80) {
      read_character();
    } else {
      result_ += '\\';
      result_ += letter;
      text_.remove_prefix(1);
    }
  }

  void read_octal() {
    char32_t value = 0;
    for (int digits = 0; digits < 3 && !text_.empty() && text_[0] >= '0' && text_[0] <= '7'; ++digits) {
      value = value * 8 + static_cast<char32_t>(text_[0] - '0');
      text_.remove_prefix(1);
    }
    append_utf8(result_, value);
  }

  void read_hexadecimal(std::size_t digits) {
    const auto value = base::parse_integer<std::uint32_t>(text_.substr(0, digits), 16);
    if (text_.size() < digits || !value) stream_.fail(line_, "an escape in a string has too few digits");
    if (*value > 0x10FFFF || (*value >= 0xD800 && *value < 0xE000))
      stream_.fail(line_, "an escape in a string is no character");
    append_utf8(result_, *value);
    text_.remove_prefix(digits);
  }

  void read_character() {
    const auto bytes = static_cast<std::size_t>(base::utf8_length(text_));
    const char32_t character = base::decode_utf8(text_.substr(0, bytes));
    const std::size_t digits = character <= 0xFF ? 2 : character <= 0xFFFF ? 4 : 8;
    result_ += character <= 0xFF ? "\\x" : character <= 0xFFFF ? "\\u" : "\\U";
    for (std::size_t i = 0; i < digits; ++i)
      result_ += "0123456789abcdef"[(character >> (4 * (digits - 1 - i))) & 15];
    text_.remove_prefix(bytes);
  }

  std::string_view text_;
  const TokenStream& stream_;
  std::uint32_t line_;
  std::string result_;
};

}  // namespace

std::string unescape(std::string_view quoted, const TokenStream& stream, std::uint32_t line) {
  return Unescaper(quoted.substr(1, quoted.size() - 2), stream, line).run();
}

}  // namespace sluice::text::jinja
