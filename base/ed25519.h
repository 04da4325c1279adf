#pragma once
// Ed25519 (RFC 8032) over libsodium: 32-byte keys, 64-byte signatures over bytes of any length.
// signature.h describes how keys and signatures look in files.

#include <array>

#include "base/bytes.h"

namespace sluice::base {

struct Ed25519PublicKey {
  std::array<std::byte, 32> bytes{};

  auto operator<=>(const Ed25519PublicKey&) const = default;
};

struct Ed25519Signature {
  std::array<std::byte, 64> bytes{};

  auto operator<=>(const Ed25519Signature&) const = default;
};

/// Overwrites memory that held a secret, in a way that is not optimised away.
void wipe(MutableBytes secret) noexcept;

/// N bytes that do not stay in memory after their use.
template <std::size_t N>
struct SecretBytes {
  std::array<std::byte, N> bytes{};

  SecretBytes() = default;
  SecretBytes(const SecretBytes&) = default;
  SecretBytes& operator=(const SecretBytes&) = default;
  ~SecretBytes() { wipe(bytes); }
};

/// The seed from which RFC 8032 derives the secret and the public key.
using Ed25519Seed = SecretBytes<32>;

/// Fills `out` with random numbers of the operating system that nobody can guess.
void fill_random(MutableBytes out);

[[nodiscard]] Ed25519PublicKey ed25519_public_key(const Ed25519Seed& seed);
[[nodiscard]] Ed25519Signature ed25519_sign(const Ed25519Seed& seed, Bytes message);
[[nodiscard]] bool ed25519_verify(const Ed25519PublicKey& key, Bytes message,
                                  const Ed25519Signature& signature);

}  // namespace sluice::base
