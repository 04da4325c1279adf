#pragma once
// Streaming hashers over OpenSSL, and over libsodium for BLAKE2b: update in pieces of any size, then final
// once. A hasher belongs to one thread at a time.

#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/digest.h"

namespace sluice::base {

/// "OpenSSL 3.0.17 1 Jul 2025": the library that hashes.
[[nodiscard]] const char* openssl_version();

/// D is Md5 (RFC 1321), Sha1 or Sha256 (FIPS 180-4), or Blake2b512 (RFC 7693).
template <typename D>
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void update(Bytes bytes);

  /// The digest of all bytes since construction or the last final(); resets the hasher.
  [[nodiscard]] D final();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

extern template class Hasher<Md5>;
extern template class Hasher<Sha1>;
extern template class Hasher<Sha256>;
extern template class Hasher<Blake2b512>;

/// The digest of one message.
template <typename D>
[[nodiscard]] D hash(Bytes bytes) {
  Hasher<D> hasher;
  hasher.update(bytes);
  return hasher.final();
}

/// Writes one digest for each message. Consecutive messages of the same length are hashed sixteen at a time
/// where the CPU can do that (wide_sha.h), all others two at a time (paired_hasher.h). Leaves of a tree are
/// best given in groups of sixteen.
void hash_each(std::span<const Bytes> messages, std::span<Sha256> digests);

}  // namespace sluice::base
