#pragma once
// Text of protocols and file formats: ASCII letters, percent-encoding and numbers. Nothing here depends on
// the locale, and nothing looks at bytes above 0x7F.

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace sluice::base {

[[nodiscard]] constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
[[nodiscard]] std::string to_lower(std::string_view text);
[[nodiscard]] std::string to_upper(std::string_view text);

[[nodiscard]] constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
[[nodiscard]] constexpr bool is_alphanumeric(char c) {
  return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'z');
}

/// The value of a hexadecimal digit of either case; -1 for any other character.
[[nodiscard]] constexpr int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = to_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// Without blanks, tabs and line ends at both ends.
[[nodiscard]] std::string_view trim_blanks(std::string_view text);

/// True when `a` and `b` differ at most in the case of ASCII letters.
[[nodiscard]] bool equals_ignoring_case(std::string_view a, std::string_view b);
/// True when `text` begins with `prefix`, whatever the case of ASCII letters.
[[nodiscard]] bool starts_with_ignoring_case(std::string_view text, std::string_view prefix);

/// Escapes every byte but the unreserved characters of RFC 3986 (letters, digits and "-._~") and those of
/// `keep`: a path keeps "/".
[[nodiscard]] std::string percent_encode(std::string_view text, std::string_view keep = {});
/// A '%' that is not followed by two hexadecimal digits stays as it is.
[[nodiscard]] std::string percent_decode(std::string_view text);

/// The number that the whole of `text` spells in `base`. Nothing for blanks, a sign "+", a "-" before an
/// unsigned number, anything behind the number, and a number that does not fit.
template <std::integral T>
[[nodiscard]] std::optional<T> parse_integer(std::string_view text, int base = 10) {
  T value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value, base);
  if (error != std::errc{} || end != last) return std::nullopt;
  return value;
}

[[nodiscard]] inline std::optional<std::uint64_t> parse_uint(std::string_view text, int base = 10) {
  return parse_integer<std::uint64_t>(text, base);
}

}  // namespace sluice::base
