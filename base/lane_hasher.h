#pragma once
// Streaming SHA hashers of which two can be fed side by side, which takes little longer than feeding one
// (sha_unit.h): two v1 pieces, two files, two leaves. Where the CPU has no SHA instructions they are
// OpenSSL's hashers, fed one after the other.

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
class LaneHasher {
 public:
  /// Tests ask for OpenSSL on CPUs that have the unit.
  explicit LaneHasher(bool use_sha_unit = has_sha_unit());

  void update(Bytes bytes);

  /// Each gets its own bytes; most is won when they are equally many.
  static void update_pair(LaneHasher& a, Bytes bytes_of_a, LaneHasher& b, Bytes bytes_of_b);

  /// Digests messages of their own, and meanwhile feeds as much of `bytes`, from the beginning, as fits in
  /// beside them: returns how much. Most is won with up to kWideShaMessages of one length.
  [[nodiscard]] std::size_t update_beside(Bytes bytes, std::span<const Bytes> messages, std::span<D> digests);

  /// The digest of all that was fed; the hasher is then as new.
  [[nodiscard]] D final();

 private:
  Bytes fill_begun_block(Bytes bytes);
  void keep_rest(Bytes bytes);

  ShaState<D> state_ = kShaStart<D>;
  std::uint64_t fed_bytes_ = 0;
  std::array<std::byte, kShaBlockBytes> begun_{};  // the first fed_bytes_ % 64 of the next block
  std::optional<Hasher<D>> plain_;                 // where there is no SHA unit
};

extern template class LaneHasher<Sha1>;
extern template class LaneHasher<Sha256>;

}  // namespace sluice::base
