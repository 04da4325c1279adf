#include "base/ascii.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

using namespace sluice::base;

TEST_CASE("only the ASCII letters have another case") {
  CHECK(to_lower("MiXtral-8x7B \xC3\x84 @[`{") == "mixtral-8x7b \xC3\x84 @[`{");
  CHECK(equals_ignoring_case("Content-Length", "content-length"));
  CHECK_FALSE(equals_ignoring_case("content-length", "content-lengt"));
  CHECK(starts_with_ignoring_case("MAGNET:?xt", "magnet:"));
  CHECK_FALSE(starts_with_ignoring_case("magnet", "magnet:"));
  for (const char c : {'/', ':', '@', '[', '`', '{', '\x80', '\xE4', '_'}) CHECK_FALSE(is_alphanumeric(c));
  for (const char c : {'0', '9', 'A', 'Z', 'a', 'z'}) CHECK(is_alphanumeric(c));
}

TEST_CASE("percent-encoding escapes everything but the unreserved characters of RFC 3986") {
  CHECK(percent_encode("a b/c~d-e.f_g") == "a%20b%2Fc~d-e.f_g");
  CHECK(percent_encode("a b/c", "/") == "a%20b/c");
  CHECK(percent_encode("\xC3\xA4?\x01") == "%C3%A4%3F%01");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  CHECK(percent_decode(percent_encode(all)) == all);
}

TEST_CASE("a percent sign without two hexadecimal digits stays") {
  CHECK(percent_decode("100%") == "100%");
  CHECK(percent_decode("%4") == "%4");
  CHECK(percent_decode("%zz%41%4g") == "%zzA%4g");
  CHECK(percent_decode("%c3%A4") == "\xC3\xA4");
}

TEST_CASE("a number takes up all of its text") {
  CHECK(parse_uint("0") == 0u);
  CHECK(parse_uint("18446744073709551615") == 18446744073709551615u);
  CHECK(parse_uint("ff", 16) == 255u);
  CHECK(parse_integer<std::int8_t>("-128") == std::int8_t{-128});
  for (const char* text : {"", " 1", "1 ", "+1", "-1", "0x1", "1.0", "1e3", "18446744073709551616"})
    CHECK_MESSAGE(!parse_uint(text).has_value(), text);
  CHECK_FALSE(parse_integer<std::uint16_t>("65536").has_value());
}
