// The lexer follows jinja2/lexer.py (3.1.2), whose regular expressions are written out here: which white
// space around a tag belongs to it decides about the ids that a model sees. Two differences: names are ASCII,
// and there are no line statements, which transformers does not switch on.

#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/ascii.h"
#include "base/error.h"
#include "text/values/unicode.h"

namespace sluice::text::jinja {
namespace {

constexpr std::array<std::string_view, 27> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";", "!"};

bool is_name_start(char byte) {
  return (base::is_alphanumeric(byte) && !base::is_digit(byte)) || byte == '_';
}
bool is_name_byte(char byte) { return base::is_alphanumeric(byte) || byte == '_'; }

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view subject) : source_(source), subject_(subject) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = find_tag(at_);
      if (tag == std::string_view::npos) {
        emit(TokenKind::data, source_.size() - at_);
        break;
      }
      if (read_raw(tag)) continue;
      const char kind = source_[tag + 1];
      const char sign = sign_at(tag + 2);
      read_data(tag, sign, kind != '{');
      const std::size_t begin_bytes = sign == '\0' ? 2 : 3;
      if (kind == '#') {
        advance(begin_bytes);
        read_comment();
      } else {
        emit(kind == '{' ? TokenKind::variable_begin : TokenKind::block_begin, begin_bytes);
        read_tag(kind == '{');
      }
    }
    tokens_.push_back({TokenKind::end, line_, {}});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string_view message) const { throw_at_line(subject_, line_, message); }

  [[nodiscard]] std::string_view rest() const { return source_.substr(at_); }

  [[nodiscard]] std::size_t find_tag(std::size_t from) const {
    for (std::size_t at = source_.find('{', from); at != std::string_view::npos;
         at = source_.find('{', at + 1))
      if (at + 1 < source_.size() &&
          (source_[at + 1] == '{' || source_[at + 1] == '%' || source_[at + 1] == '#'))
        return at;
    return std::string_view::npos;
  }

  [[nodiscard]] char sign_at(std::size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  [[nodiscard]] std::size_t skip_space(std::size_t at) const {
    while (const std::size_t bytes = space_length(source_.substr(at))) at += bytes;
    return at;
  }

  // Moves on by `bytes` and counts lines.
  void advance(std::size_t bytes) {
    const auto passed = source_.substr(at_, bytes);
    line_ += static_cast<std::uint32_t>(std::ranges::count(passed, '\n'));
    if (!passed.empty()) line_starting_ = passed.back() == '\n';
    at_ += bytes;
  }

  void emit(TokenKind kind, std::size_t bytes) {
    tokens_.push_back({kind, line_, source_.substr(at_, bytes)});
    advance(bytes);
  }

  // The text before the tag at `tag`, without the white space that belongs to the tag.
  void read_data(std::size_t tag, char sign, bool strips_line) {
    const std::string_view text = source_.substr(at_, tag - at_);
    std::string_view kept = text;
    if (sign == '-') {
      while (const std::size_t bytes = last_space_length(kept)) kept.remove_suffix(bytes);
    } else if (sign != '+' && strips_line) {
      const std::size_t line_begin = text.rfind('\n') + 1;  // 0 when there is no line end
      const std::size_t begin = at_ + line_begin;
      if ((line_begin > 0 || line_starting_) && skip_space(begin) >= tag) kept = text.substr(0, line_begin);
    }
    if (!kept.empty()) tokens_.push_back({TokenKind::data, line_, kept});
    advance(text.size());
  }

  // The end of a block or comment at `at`: its length, or 0 when there is none. `close` is "%}" or "#}".
  [[nodiscard]] std::size_t end_length(std::size_t at, std::string_view close) const {
    const std::string_view text = source_.substr(at);
    if (text.starts_with(close)) return close.size() + (text.substr(close.size()).starts_with('\n') ? 1 : 0);
    if (text.empty() || !text.substr(1).starts_with(close)) return 0;
    if (text[0] == '+') return 1 + close.size();
    if (text[0] == '-') return skip_space(at + 1 + close.size()) - at;
    return 0;
  }

  // "{% endraw %}" at `at`: its length, or 0.
  [[nodiscard]] std::size_t endraw_length(std::size_t at) const {
    if (!source_.substr(at).starts_with("{%")) return 0;
    const std::size_t name = skip_space(at + (sign_at(at + 2) == '\0' ? 2 : 3));
    if (!source_.substr(name).starts_with("endraw")) return 0;
    const std::size_t end = skip_space(name + 6);
    const std::size_t bytes = end_length(end, "%}");
    return bytes == 0 ? 0 : end + bytes - at;
  }

  // "{% raw %}": the text up to "{% endraw %}" is data. False when the tag is another one.
  bool read_raw(std::size_t tag) {
    if (source_[tag + 1] != '%') return false;
    const char sign = sign_at(tag + 2);
    const std::size_t name = skip_space(tag + (sign == '\0' ? 2 : 3));
    if (!source_.substr(name).starts_with("raw")) return false;
    std::size_t end = skip_space(name + 3);
    if (source_.substr(end).starts_with("-%}")) {
      end = skip_space(end + 3);
    } else if (source_.substr(end).starts_with("%}")) {
      end += 2;
    } else {
      return false;
    }
    read_data(tag, sign, true);
    advance(end - tag);
    for (std::size_t close = source_.find("{%", at_); close != std::string_view::npos;
         close = source_.find("{%", close + 1)) {
      const std::size_t bytes = endraw_length(close);
      if (bytes == 0) continue;
      read_data(close, sign_at(close + 2), true);
      advance(bytes);
      return true;
    }
    fail("the tag 'raw' has no 'endraw'");
  }

  void read_comment() {
    for (std::size_t close = source_.find("#}", at_); close != std::string_view::npos;
         close = source_.find("#}", close + 1)) {
      const std::size_t begin = close > at_ && sign_at(close - 1) != '\0' ? close - 1 : close;
      advance(begin + end_length(begin, "#}") - at_);
      return;
    }
    fail("a comment has no end '#}'");
  }

  void read_tag(bool variable) {
    while (at_ < source_.size()) {
      if (brackets_.empty()) {
        const std::size_t bytes = variable ? variable_end_length() : end_length(at_, "%}");
        if (bytes != 0) {
          emit(variable ? TokenKind::variable_end : TokenKind::block_end, bytes);
          return;
        }
      }
      if (const std::size_t end = skip_space(at_); end > at_) {
        advance(end - at_);
      } else if (const std::size_t digits = float_length()) {
        emit(TokenKind::floating, digits);
      } else if (const std::size_t bytes = integer_length()) {
        emit(TokenKind::integer, bytes);
      } else if (is_name_start(source_[at_])) {
        const auto name_end = std::ranges::find_if_not(rest(), is_name_byte);
        emit(TokenKind::name, static_cast<std::size_t>(name_end - rest().begin()));
      } else if (source_[at_] == '"' || source_[at_] == '\'') {
        read_string();
      } else {
        read_operator();
      }
    }
  }

  [[nodiscard]] std::size_t variable_end_length() const {
    if (rest().starts_with("}}")) return 2;
    return rest().starts_with("-}}") ? skip_space(at_ + 3) - at_ : 0;
  }

  // The end of digits at `at` that underscores may separate; `at` itself when there is no digit.
  template <typename IsDigit>
  [[nodiscard]] std::size_t skip_digits(std::size_t at, IsDigit is_digit) const {
    const auto digit_at = [&](std::size_t index) {
      return index < source_.size() && is_digit(source_[index]);
    };
    if (!digit_at(at)) return at;
    ++at;
    while (true) {
      if (digit_at(at)) {
        ++at;
      } else if (at < source_.size() && source_[at] == '_' && digit_at(at + 1)) {
        at += 2;
      } else {
        return at;
      }
    }
  }

  [[nodiscard]] std::size_t float_length() const {
    if (at_ > 0 && source_[at_ - 1] == '.') return 0;
    const std::size_t whole = skip_digits(at_, base::is_digit);
    if (whole == at_) return 0;
    std::size_t end = whole;
    if (end < source_.size() && source_[end] == '.') end = skip_digits(end + 1, base::is_digit);
    if (end == whole + 1) end = whole;  // no digit behind the point
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const std::size_t digits = end + (sign_at(end + 1) == '\0' ? 1 : 2);
      const std::size_t exponent_end = skip_digits(digits, base::is_digit);
      if (exponent_end > digits) return exponent_end - at_;
    }
    return end > whole ? end - at_ : 0;
  }

  [[nodiscard]] std::size_t integer_length() const {
    const std::string_view text = rest();
    if (!base::is_digit(text[0])) return 0;
    if (text[0] != '0') return skip_digits(at_, base::is_digit) - at_;
    const auto based = [&](char letter, auto is_digit) -> std::size_t {
      if (text.size() < 3 || base::to_lower(text[1]) != letter) return 0;
      const std::size_t begin = at_ + (text[2] == '_' ? 3 : 2);
      const std::size_t end = skip_digits(begin, is_digit);
      return end > begin ? end - at_ : 0;
    };
    if (const auto bytes = based('b', [](char c) { return c == '0' || c == '1'; })) return bytes;
    if (const auto bytes = based('o', [](char c) { return c >= '0' && c <= '7'; })) return bytes;
    if (const auto bytes = based('x', [](char c) {
          return base::is_digit(c) || (base::to_lower(c) >= 'a' && base::to_lower(c) <= 'f');
        }))
      return bytes;
    return skip_digits(at_, [](char c) { return c == '0'; }) - at_;
  }

  void read_string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a string has no end");
    emit(TokenKind::string, end + 1 - at_);
  }

  void read_operator() {
    const auto found =
        std::ranges::find_if(kOperators, [&](std::string_view text) { return rest().starts_with(text); });
    if (found == kOperators.end() || *found == "!") fail("unexpected character " + describe_character());
    const char first = found->front();
    if (first == '(' || first == '[' || first == '{') {
      brackets_.push_back(first == '(' ? ')' : first == '[' ? ']' : '}');
    } else if (first == ')' || first == ']' || first == '}') {
      if (brackets_.empty()) fail(std::string("unexpected '") + first + "'");
      if (brackets_.back() != first)
        fail(std::string("unexpected '") + first + "', expected '" + brackets_.back() + "'");
      brackets_.pop_back();
    }
    emit(TokenKind::operation, found->size());
  }

  [[nodiscard]] std::string describe_character() const {
    const auto byte = static_cast<unsigned char>(source_[at_]);
    if (byte >= 0x20 && byte < 0x7F) return std::string("'") + source_[at_] + "'";
    constexpr std::string_view kDigits = "0123456789abcdef";
    return std::string("of byte 0x") + kDigits[byte >> 4] + kDigits[byte & 15];
  }

  std::string_view source_;
  std::string_view subject_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  bool line_starting_ = true;  // what was read last ends a line
  std::string brackets_;       // the ends of brackets that are open
  std::vector<Token> tokens_;
};

}  // namespace

std::string normalize_line_ends(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      result += source[i];
    } else {
      result += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

std::vector<Token> tokenize(std::string_view source, std::string_view subject) {
  return Lexer(source, subject).run();
}

void throw_at_line(std::string_view subject, std::uint32_t line, std::string_view message) {
  base::throw_malformed(subject, "line " + std::to_string(line) + ": " + std::string(message));
}

}  // namespace sluice::text::jinja
