#include "base/ed25519.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <limits>
#include <memory>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::base {
namespace {

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Context = std::unique_ptr<EVP_MD_CTX, Free>;

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

Context new_context() {
  Context context(EVP_MD_CTX_new());
  INVARIANT(context != nullptr);
  return context;
}

// Every 32 bytes are a seed: this fails only for want of memory.
Key private_key(const Ed25519Seed& seed) {
  Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw(seed.bytes.data()), seed.bytes.size()));
  INVARIANT(key != nullptr);
  return key;
}

}  // namespace

void wipe(MutableBytes secret) noexcept { OPENSSL_cleanse(secret.data(), secret.size()); }

void fill_random(MutableBytes out) {
  INVARIANT(out.size() <= std::numeric_limits<int>::max());
  if (RAND_bytes(raw(out.data()), static_cast<int>(out.size())) != 1)
    throw Error(ErrorKind::io, "the system gives no random numbers");
}

Ed25519PublicKey ed25519_public_key(const Ed25519Seed& seed) {
  const Key key = private_key(seed);
  Ed25519PublicKey out;
  std::size_t length = out.bytes.size();
  INVARIANT(EVP_PKEY_get_raw_public_key(key.get(), raw(out.bytes.data()), &length) == 1);
  INVARIANT(length == out.bytes.size());
  return out;
}

Ed25519Signature ed25519_sign(const Ed25519Seed& seed, Bytes message) {
  const Key key = private_key(seed);
  const Context context = new_context();
  Ed25519Signature out;
  std::size_t length = out.bytes.size();
  INVARIANT(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1);
  INVARIANT(EVP_DigestSign(context.get(), raw(out.bytes.data()), &length, raw(message.data()),
                           message.size()) == 1);
  INVARIANT(length == out.bytes.size());
  return out;
}

bool ed25519_verify(const Ed25519PublicKey& key, Bytes message, const Ed25519Signature& signature) {
  const Key evp(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw(key.bytes.data()), key.bytes.size()));
  INVARIANT(evp != nullptr);
  const Context context = new_context();
  INVARIANT(EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, evp.get()) == 1);
  // 0 for a wrong signature, below 0 for bytes that are no signature or no point of the curve.
  return EVP_DigestVerify(context.get(), raw(signature.bytes.data()), signature.bytes.size(),
                          raw(message.data()), message.size()) == 1;
}

}  // namespace sluice::base
