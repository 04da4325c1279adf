#pragma once
// Byte-level vocabularies spell each byte by one printable character: bytes that are printable in Latin-1 by
// themselves, the others by the characters from U+0100 on. Source: GPT-2, encoder.py, bytes_to_unicode().

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::text {

/// The bytes that `letters` spells; nothing when a character of it stands for no byte.
[[nodiscard]] std::optional<std::string> bytes_of_letters(std::string_view letters);
/// The character, in UTF-8, that stands for a byte.
[[nodiscard]] std::string letter_of_byte(std::uint8_t byte);

}  // namespace sluice::text
