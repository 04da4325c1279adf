#include "text/byte_letters.h"

#include <array>

#include "base/text.h"

namespace sluice::text {
namespace {

struct Letters {
  std::array<char16_t, 256> of_byte{};
  std::array<std::int16_t, 0x144> byte_of{};  ///< -1: stands for no byte
};

constexpr Letters make_letters() {
  Letters letters;
  letters.byte_of.fill(-1);
  char16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    letters.of_byte[byte] = printable ? static_cast<char16_t>(byte) : next++;
    letters.byte_of[letters.of_byte[byte]] = static_cast<std::int16_t>(byte);
  }
  return letters;
}

constexpr Letters kLetterTable = make_letters();

}  // namespace

std::optional<std::string> bytes_of_letters(std::string_view letters) {
  std::string bytes;
  bytes.reserve(letters.size());
  while (!letters.empty()) {
    const int length = base::utf8_length(letters);
    if (length <= 0) return std::nullopt;
    const char32_t letter = base::decode_utf8(letters.substr(0, static_cast<std::size_t>(length)));
    if (letter >= kLetterTable.byte_of.size() || kLetterTable.byte_of[letter] < 0) return std::nullopt;
    bytes += static_cast<char>(kLetterTable.byte_of[letter]);
    letters.remove_prefix(static_cast<std::size_t>(length));
  }
  return bytes;
}

std::string letter_of_byte(std::uint8_t byte) {
  const char16_t letter = kLetterTable.of_byte[byte];
  if (letter < 0x80) return std::string(1, static_cast<char>(letter));
  return {static_cast<char>(0xC0 | letter >> 6), static_cast<char>(0x80 | (letter & 0x3F))};
}

}  // namespace sluice::text
