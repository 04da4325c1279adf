#include "base/digest.h"

#include "base/ascii.h"

namespace sluice::base {

namespace {

/// hex_value() of every character. Directories of large models hold a hundred thousand digests.
constexpr auto kHexValues = [] {
  std::array<signed char, 256> values{};
  for (std::size_t c = 0; c < values.size(); ++c)
    values[c] = static_cast<signed char>(hex_value(static_cast<char>(c)));
  return values;
}();

int value_of(char c) { return kHexValues[static_cast<unsigned char>(c)]; }

}  // namespace

std::string to_hex(std::span<const std::byte> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(bytes.size() * 2, '0');
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text[2 * i] = kDigits[std::to_integer<unsigned>(bytes[i]) >> 4];
    text[2 * i + 1] = kDigits[std::to_integer<unsigned>(bytes[i]) & 15];
  }
  return text;
}

bool from_hex(std::string_view text, std::span<std::byte> out) {
  if (text.size() != out.size() * 2) return false;
  int all = 0;  // negative as soon as one digit is
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = value_of(text[2 * i]);
    const int low = value_of(text[2 * i + 1]);
    all |= high | low;
    out[i] = static_cast<std::byte>(high * 16 + low);
  }
  return all >= 0;
}

}  // namespace sluice::base
