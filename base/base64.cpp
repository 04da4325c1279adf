#include "base/base64.h"

#include <openssl/evp.h>

#include <limits>

#include "base/invariant.h"

namespace sluice::base {

std::string to_base64(Bytes bytes) {
  INVARIANT(bytes.size() < std::numeric_limits<int>::max() / 2);
  std::string text(divide_up(bytes.size(), 3) * 4, '\0');
  // Writes a zero after the text, where std::string has one anyway.
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                  reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  return text;
}

std::optional<std::vector<std::byte>> parse_base64(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > std::numeric_limits<int>::max()) return std::nullopt;
  std::vector<std::byte> bytes(text.size() / 4 * 3);
  if (EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size())) < 0)
    return std::nullopt;
  // OpenSSL takes padding for zeros and blanks at the ends for nothing; writing it again shows both.
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) {
    text.remove_suffix(1);
    bytes.pop_back();
  }
  const std::string again = to_base64(bytes);
  if (!std::string_view(again).starts_with(text) || again.find('=') < text.size()) return std::nullopt;
  return bytes;
}

}  // namespace sluice::base
