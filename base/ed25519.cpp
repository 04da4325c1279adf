// libsodium's Ed25519. Its secret key is the seed with the public key behind it; Sluice keeps only the seed
// in memory and computes this form for each signature. Verification rejects keys of small order and
// signatures that are not canonical, as minisign's does.

#include "base/ed25519.h"

#include <sodium.h>

#include "base/invariant.h"
#include "base/sodium.h"

namespace sluice::base {
namespace {

static_assert(sizeof(Ed25519PublicKey) == crypto_sign_PUBLICKEYBYTES);
static_assert(sizeof(Ed25519Signature) == crypto_sign_BYTES);
static_assert(sizeof(Ed25519Seed) == crypto_sign_SEEDBYTES);

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

/// libsodium's form of a secret key: the seed and the public key.
struct KeyPair {
  Ed25519PublicKey public_key;
  SecretBytes<crypto_sign_SECRETKEYBYTES> secret_key;

  explicit KeyPair(const Ed25519Seed& seed) {
    prepare_sodium();
    INVARIANT(crypto_sign_seed_keypair(raw(public_key.bytes.data()), raw(secret_key.bytes.data()),
                                       raw(seed.bytes.data())) == 0);
  }
};

}  // namespace

void prepare_sodium() {
  static const int result = sodium_init();  // 0 for the first call of the process, 1 for later ones
  INVARIANT(result >= 0);
}

void wipe(MutableBytes secret) noexcept { sodium_memzero(secret.data(), secret.size()); }

void fill_random(MutableBytes out) {
  prepare_sodium();
  randombytes_buf(out.data(), out.size());
}

Ed25519PublicKey ed25519_public_key(const Ed25519Seed& seed) { return KeyPair(seed).public_key; }

Ed25519Signature ed25519_sign(const Ed25519Seed& seed, Bytes message) {
  const KeyPair pair(seed);
  Ed25519Signature out;
  INVARIANT(crypto_sign_detached(raw(out.bytes.data()), nullptr, raw(message.data()), message.size(),
                                 raw(pair.secret_key.bytes.data())) == 0);
  return out;
}

bool ed25519_verify(const Ed25519PublicKey& key, Bytes message, const Ed25519Signature& signature) {
  prepare_sodium();
  return crypto_sign_verify_detached(raw(signature.bytes.data()), raw(message.data()), message.size(),
                                     raw(key.bytes.data())) == 0;
}

}  // namespace sluice::base
