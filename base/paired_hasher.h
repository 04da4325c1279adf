#pragma once
// Streaming SHA hashers, two of which can be fed at once: v1 pieces, files or leaves. Feeding two takes
// little longer than feeding one (sha_unit.h). Where the CPU has no SHA instructions they use OpenSSL and are
// fed one after the other.

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/hasher.h"
#include "base/sha_unit.h"

namespace sluice::base {

/// D is Sha1 or Sha256. Belongs to one thread at a time.
template <typename D>
class PairedHasher {
 public:
  /// Tests pass false to get OpenSSL on CPUs that have the instructions.
  explicit PairedHasher(bool use_sha_unit = has_sha_unit());

  void update(Bytes bytes);

  /// Feeds each hasher its own bytes. The gain is largest when the lengths are equal.
  static void update_pair(PairedHasher& a, Bytes bytes_of_a, PairedHasher& b, Bytes bytes_of_b);

  /// Computes the digests of separate messages, and interleaved with them feeds this hasher the first bytes
  /// of `bytes`: as many as cost no extra time. Returns their number. The gain is largest for up to
  /// kWideShaMessages messages of the same length.
  [[nodiscard]] std::size_t update_interleaved(Bytes bytes, std::span<const Bytes> messages,
                                               std::span<D> digests);

  /// The digest of all bytes since construction or the last final(); resets the hasher.
  [[nodiscard]] D final();

 private:
  Bytes fill_partial_block(Bytes bytes);
  void keep_rest(Bytes bytes);

  ShaState<D> state_ = kShaStart<D>;
  std::uint64_t fed_bytes_ = 0;
  std::array<std::byte, kShaBlockBytes>
      partial_block_{};               // the first fed_bytes_ % 64 bytes of the next block
  std::optional<Hasher<D>> openssl_;  // used where there is no SHA unit
};

extern template class PairedHasher<Sha1>;
extern template class PairedHasher<Sha256>;

}  // namespace sluice::base
