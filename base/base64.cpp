#include "base/base64.h"

#include <sodium.h>

namespace sluice::base {
namespace {

constexpr int kVariant = sodium_base64_VARIANT_ORIGINAL;  // RFC 4648, section 4, with padding

}  // namespace

std::string to_base64(Bytes bytes) {
  std::string text(sodium_base64_ENCODED_LEN(bytes.size(), kVariant), '\0');
  sodium_bin2base64(text.data(), text.size(), reinterpret_cast<const unsigned char*>(bytes.data()),
                    bytes.size(), kVariant);
  text.pop_back();  // the zero that ends C's strings
  return text;
}

std::optional<std::vector<std::byte>> parse_base64(std::string_view text) {
  // Nothing to decode into: libsodium takes no null pointer.
  if (text.size() < 4) return text.empty() ? std::optional(std::vector<std::byte>()) : std::nullopt;
  // Four characters stand for three bytes; padding makes it fewer, and libsodium returns their number.
  std::vector<std::byte> bytes(text.size() / 4 * 3);
  std::size_t length = 0;
  // Without a place for the end of the parsed text, libsodium refuses whatever does not belong to it.
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(),
                        text.size(),
                        /*ignore=*/nullptr, &length, /*b64_end=*/nullptr, kVariant) != 0)
    return std::nullopt;
  bytes.resize(length);
  return bytes;
}

}  // namespace sluice::base
