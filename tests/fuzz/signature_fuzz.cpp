// Signatures, public keys and secret keys from strangers.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "base/signature.h"

using namespace sluice;

namespace {

/// What was read can be written, and reads back as the same.
template <typename Parse>
void read_again(std::string_view text, const Parse& parse) {
  try {
    const std::string written = to_text(parse(text));
    INVARIANT(to_text(parse(written)) == written);
  } catch (const base::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_again(text, [](std::string_view input) { return base::parse_signature(input, "fuzz"); });
  read_again(text, [](std::string_view input) { return base::parse_public_key(input, "fuzz"); });
  try {
    // Trying a password is slow on purpose, and OpenSSL's matter.
    if (base::is_locked(text, "fuzz")) return 0;
    const base::SecretKey key = base::parse_secret_key(text, "fuzz", "");
    const std::string written = to_text(key, "");
    INVARIANT(base::parse_secret_key(written, "again", "").seed.bytes == key.seed.bytes);
  } catch (const base::Error&) {
  }
  return 0;
}
