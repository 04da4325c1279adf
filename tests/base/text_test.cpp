#include "base/text.h"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "base/bytes.h"
#include "base/error.h"

using namespace sluice::base;

TEST_CASE("sizes are read as people write them") {
  const struct {
    const char* text;
    std::uint64_t bytes;
  } cases[] = {
      {"0", 0},
      {"1234", 1234},
      {"7B", 7},
      {"512MiB", 512ull << 20},
      {"64k", 64 << 10},
      {"64K", 64 << 10},
      {"64KiB", 64 << 10},
      {"10M/s", 10 << 20},
      {"10MB/s", 10000000},
      {"1.5GB", 1500000000},
      {"1.5G", 3ull << 29},
      {"2TiB", 2ull << 40},
      {"0.5", 0},
      {"9007199254740993", 9007199254740993},  // does not fit a double
      {"9223372036854775807", 9223372036854775807},
  };
  for (const auto& [text, bytes] : cases) {
    CAPTURE(text);
    CHECK(parse_bytes(text) == bytes);
  }
}

TEST_CASE("text that is not a size is refused") {
  for (const char* text : {"",
                           " ",
                           "M",
                           "-1",
                           "-0",
                           "+1",
                           "1e3",
                           "1 MiB",
                           "1MiBs",
                           "1 ",
                           " 1",
                           "0x10",
                           "1,5",
                           "inf",
                           "nan",
                           "1/s/s",
                           "1XiB",
                           "1mib",
                           "9223372036854775808",
                           "9e99",
                           "99999999TiB",
                           "1..5",
                           "infM"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_bytes(text));
  }
}

TEST_CASE("durations are read as people write them") {
  CHECK(parse_duration("5", 1) == 5.0);
  CHECK(parse_duration("5", 60) == 300.0);
  CHECK(parse_duration("0.1", 60) == doctest::Approx(6));
  CHECK(parse_duration("90s", 60) == 90.0);
  CHECK(parse_duration("5m", 1) == 300.0);
  CHECK(parse_duration("5min", 1) == 300.0);
  CHECK(parse_duration("1h30m", 1) == 5400.0);
  CHECK(parse_duration("1d1h1m1s", 1) == 90061.0);
  CHECK(parse_duration("1.5h", 1) == 5400.0);
  CHECK(parse_duration("0", 1) == 0.0);
  for (const char* text : {"", " ", "m", "-1", "-5m", "1h30", "30m1h", "1m1m", "1h 30m", "5 m", "5x", "1e3",
                           "inf", "nan", "5M", "1000000001", "99999999999999999999h"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_duration(text, 1).has_value());
  }
}

TEST_CASE("durations are written as they are read") {
  CHECK(to_duration_text(600) == "10m");
  CHECK(to_duration_text(5400) == "1h30m");
  CHECK(to_duration_text(90) == "1m30s");
  CHECK(to_duration_text(7) == "7s");
  CHECK(to_duration_text(0.5) == "0.5s");
  CHECK(to_duration_text(0) == "0s");
  CHECK(to_duration_text(86400) == "24h");
}

TEST_CASE("sizes and times are shown to people") {
  CHECK(to_human_bytes(0) == "0 B");
  CHECK(to_human_bytes(1023) == "1023 B");
  CHECK(to_human_bytes(1536) == "1.5 KiB");
  CHECK(to_human_bytes(93405585408) == "87.0 GiB");
  CHECK(to_human_bytes(~0ull) == "16.0 EiB");
  CHECK(to_human_seconds(0) == "0:00");
  CHECK(to_human_seconds(75.2) == "1:15");
  CHECK(to_human_seconds(3599.6) == "1:00:00");
  CHECK(to_human_seconds(3725) == "1:02:05");
}

TEST_CASE("counts") {
  CHECK(to_counted(0, "tracker") == "0 trackers");
  CHECK(to_counted(1, "tracker") == "1 tracker");
  CHECK(to_counted(2, "given peer") == "2 given peers");
}

TEST_CASE("UTF-8 is what Unicode's table 3-7 says") {
  for (const char* good :
       {"", "a", "\u00e9", "\u20ac", "\U0001F600", "\U0010FFFF", "\uD7FF", "\uE000", "a\u0000"}) {
    CAPTURE(good);
    CHECK(is_utf8(good));
  }
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xe2\x82", "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2(\xa1", "a\xc3"}) {
    CHECK_FALSE(is_utf8(bad));
  }
  CHECK(utf8_length("\xe2\x82") == -1);  // only cut off
  CHECK(utf8_length("\xe2(") == 0);
  CHECK(utf8_length("") == -1);
}

TEST_CASE("every code point survives its encoding, and every other start is refused") {
  for (char32_t code = 0; code <= 0x10FFFF; code += code < 0x11000 ? 1 : 97) {
    std::string text;
    if (code < 0x80) {
      text = {static_cast<char>(code)};
    } else if (code < 0x800) {
      text = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    } else if (code < 0x10000) {
      text = {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
              static_cast<char>(0x80 | (code & 63))};
    } else {
      text = {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 63)),
              static_cast<char>(0x80 | (code >> 6 & 63)), static_cast<char>(0x80 | (code & 63))};
    }
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    REQUIRE(utf8_length(text) == (surrogate ? 0 : static_cast<int>(text.size())));
    if (!surrogate) REQUIRE(decode_utf8(text) == code);
  }
}

TEST_CASE("text from outside cannot control the terminal or change its direction") {
  CHECK(to_printable("plain \u00e9\U0001F600") == "plain \u00e9\U0001F600");
  CHECK(to_printable("a\x1b[2Jb\n") == "a\uFFFD[2Jb\uFFFD");
  CHECK(to_printable("\xff\xc3") == "\uFFFD\uFFFD");
  CHECK(to_printable("\u009b31m\x7f") == "\uFFFD31m\uFFFD");
  CHECK(to_printable("gpj\u202Eexe") == "gpj\uFFFDexe");
  for (const char32_t code :
       {0x0, 0x1F, 0x7F, 0x80, 0x9F, 0x61C, 0x200E, 0x200F, 0x202A, 0x202E, 0x2066, 0x2069, 0xFEFF})
    CHECK(is_deceptive(code));
  for (const char32_t code :
       {0x20, 0x7E, 0xA0, 0x61D, 0x200D, 0x2010, 0x2029, 0x202F, 0x2065, 0x206A, 0xFEFE})
    CHECK_FALSE(is_deceptive(code));
}

TEST_CASE("sums and products that do not fit 64 bits give nothing") {
  constexpr std::uint64_t kMax = ~0ull;
  CHECK(checked_add(kMax, 0) == kMax);
  CHECK_FALSE(checked_add(kMax, 1));
  CHECK_FALSE(checked_add(1ull << 63, 1ull << 63));
  CHECK(checked_mul(0, kMax) == 0);
  CHECK(checked_mul(kMax, 1) == kMax);
  CHECK(checked_mul(1ull << 32, (1ull << 32) - 1) == ((1ull << 32) - 1) << 32);
  CHECK_FALSE(checked_mul(1ull << 32, 1ull << 32));
  CHECK(divide_up(0, 5) == 0);
  CHECK(divide_up(kMax, 2) == 1ull << 63);
  CHECK(align_up(1, 4096) == 4096);
  CHECK(align_up(4096, 4096) == 4096);
}

TEST_CASE("numbers lie in bytes with the lowest first") {
  std::array<std::byte, 8> bytes{};
  store_le<std::uint32_t>(bytes, 2, 0x04030201);
  CHECK(to_integer<int>(bytes[2]) == 1);
  CHECK(to_integer<int>(bytes[5]) == 4);
  CHECK(load_le<std::uint32_t>(bytes, 2) == 0x04030201);
  CHECK(load_le<std::uint16_t>(bytes, 4) == 0x0403);
  CHECK(all_zero(Bytes(bytes).first(2)));
  CHECK_FALSE(all_zero(bytes));
}

TEST_CASE("every kind of error has its own exit code from 1 to 10, and its own name") {
  constexpr ErrorKind kKinds[] = {
      ErrorKind::verification, ErrorKind::usage,   ErrorKind::incomplete,  ErrorKind::no_space,
      ErrorKind::no_peers,     ErrorKind::network, ErrorKind::interrupted, ErrorKind::untrusted,
      ErrorKind::malformed,    ErrorKind::io};
  int expected = 1;
  for (const ErrorKind kind : kKinds) {
    CHECK(exit_code(kind) == expected++);
    CHECK_FALSE(to_string(kind).empty());
  }
  CHECK(to_string(ErrorKind::no_space) == "no_space");
}
