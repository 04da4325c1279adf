// Sizes and durations for people, and UTF-8. Nothing here uses the locale.

#include "base/text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/ascii.h"

namespace sluice::base {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

// Single letters are powers of 1024, as in most tools that take a size. Only an explicit "B" after K, M, G or
// T means powers of 1000 (SI), and "iB" those of 1024 (IEC 80000-13).
constexpr std::array kUnits = {
    Unit{"", 1.0},
    Unit{"B", 1.0},
    Unit{"K", 1024.0},
    Unit{"k", 1024.0},
    Unit{"KiB", 1024.0},
    Unit{"M", 1048576.0},
    Unit{"m", 1048576.0},
    Unit{"MiB", 1048576.0},
    Unit{"G", 1073741824.0},
    Unit{"g", 1073741824.0},
    Unit{"GiB", 1073741824.0},
    Unit{"T", 1099511627776.0},
    Unit{"TiB", 1099511627776.0},
    Unit{"KB", 1e3},
    Unit{"kB", 1e3},
    Unit{"MB", 1e6},
    Unit{"GB", 1e9},
    Unit{"TB", 1e12},
};

unsigned char byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

}  // namespace

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  if (text.ends_with("/s")) text.remove_suffix(2);
  const char* const last = text.data() + text.size();
  if (text.empty() || (text.front() != '.' && !is_digit(text.front()))) return std::nullopt;

  // Whole numbers stay exact: a double holds only 53 bits.
  if (const auto whole = parse_uint(text)) return *whole < (1ull << 63) ? whole : std::nullopt;

  double number = 0;
  // from_chars() does not know the locale: "1.5" has a point in every country.
  const auto [end, code] = std::from_chars(text.data(), last, number, std::chars_format::fixed);
  if (code != std::errc{}) return std::nullopt;
  const std::string_view unit_name(end, static_cast<std::size_t>(last - end));
  for (const Unit& unit : kUnits) {
    if (unit.name != unit_name) continue;
    const double bytes = number * unit.factor;
    if (bytes >= 0x1p63) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
  }
  return std::nullopt;
}

std::optional<double> parse_duration(std::string_view text, double plain_unit_s) {
  constexpr std::array kDurationUnits = {Unit{"d", 86400}, Unit{"h", 3600}, Unit{"m", 60}, Unit{"min", 60},
                                         Unit{"s", 1}};
  if (text.empty()) return std::nullopt;
  double seconds = 0;
  double last_unit_s = kDurationMax_s;
  while (!text.empty()) {
    // from_chars() also takes "-1", "inf" and "nan".
    if (text.front() != '.' && !is_digit(text.front())) return std::nullopt;
    double number = 0;
    const auto [end, code] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (code != std::errc{}) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    std::size_t name_length = 0;
    while (name_length < text.size() && text[name_length] != '.' && !is_digit(text[name_length]))
      ++name_length;
    const std::string_view name = text.substr(0, name_length);
    text.remove_prefix(name_length);
    double unit_s = 0;
    // "1h30" is refused: nobody can tell minutes from seconds there.
    if (name.empty() && last_unit_s == kDurationMax_s) unit_s = plain_unit_s;
    for (const Unit& unit : kDurationUnits)
      if (unit.name == name) unit_s = unit.factor;
    if (unit_s == 0 || unit_s >= last_unit_s) return std::nullopt;
    last_unit_s = unit_s;
    seconds += number * unit_s;
  }
  if (seconds > kDurationMax_s) return std::nullopt;
  return seconds;
}

std::string to_duration_text(double seconds) {
  std::string text;
  const auto add = [&](double unit_s, const char* name) {
    const auto count = static_cast<std::uint64_t>(seconds / unit_s);
    if (count == 0) return;
    text += std::to_string(count) + name;
    seconds -= static_cast<double>(count) * unit_s;
  };
  add(3600, "h");
  add(60, "m");
  if (seconds <= 0 && !text.empty()) return text;
  std::array<char, 32> rest{};
  std::snprintf(rest.data(), rest.size(), "%gs", seconds);
  return text + rest.data();
}

std::string to_human_bytes(std::uint64_t bytes) {
  constexpr std::array kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  // About three digits: one decimal below 100, none above, and never a fraction of a byte.
  std::snprintf(text.data(), text.size(), unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
                kNames[unit]);
  return text.data();
}

std::string to_human_seconds(double seconds) {
  const auto total = static_cast<long long>(std::llround(seconds));
  std::array<char, 48> text{};
  if (total >= 3600) {
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02lld", total / 60, total % 60);
  }
  return text.data();
}

std::string to_counted(std::uint64_t count, std::string_view noun) {
  return std::to_string(count) + ' ' + std::string(noun) + (count == 1 ? "" : "s");
}

// Unicode 15, table 3-7. A decoder that accepted other forms would let one character have several encodings,
// so that a check of a name could be evaded.
int utf8_length(std::string_view text) {
  if (text.empty()) return -1;
  const unsigned lead = byte_at(text, 0);
  if (lead < 0x80) return 1;
  // The range of the second byte rules out overlong forms, surrogates and what is above U+10FFFF.
  unsigned low = 0x80;
  unsigned high = 0xBF;
  int length = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if (static_cast<std::size_t>(i) >= text.size()) return -1;
    const unsigned next = byte_at(text, static_cast<std::size_t>(i));
    if (next < low || next > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const int length = utf8_length(text);
    if (length <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(length));
  }
  return true;
}

char32_t decode_utf8(std::string_view character) {
  if (character.size() == 1) return byte_at(character, 0);
  // The lead byte has as many leading ones as the character has bytes, and then a zero: what is left after
  // the mask are its bits of the code point.
  char32_t code_point = byte_at(character, 0) & (0x7Fu >> character.size());
  for (std::size_t i = 1; i < character.size(); ++i)
    code_point = code_point << 6 | (byte_at(character, i) & 0x3Fu);
  return code_point;
}

// A name with such a character can look like another name (U+202E shows what follows from right to left), or
// control a terminal.
bool is_deceptive(char32_t code_point) {
  if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) return true;
  if (code_point >= 0x202A && code_point <= 0x202E) return true;  // embeddings and overrides
  if (code_point >= 0x2066 && code_point <= 0x2069) return true;  // isolates
  return code_point == 0x200E || code_point == 0x200F || code_point == 0x061C || code_point == 0xFEFF;
}

std::string to_printable(std::string_view text) {
  std::string printable;
  while (!text.empty()) {
    const int length = utf8_length(text);
    if (length <= 0) {
      printable += "\uFFFD";
      text.remove_prefix(1);
      continue;
    }
    const auto character = text.substr(0, static_cast<std::size_t>(length));
    printable += is_deceptive(decode_utf8(character)) ? std::string_view("\uFFFD") : character;
    text.remove_prefix(character.size());
  }
  return printable;
}

}  // namespace sluice::base
