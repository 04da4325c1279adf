#pragma once
// SHA-256 (FIPS 180-4) of many messages at a time, each in a lane of AVX-512's registers: nearly twice as
// fast as the SHA instructions with two messages (measured on Zen 5: 5.7 and 3.0 GB/s a core). Good for
// leaves of trees, which are many, of one length, and have nothing to do with each other.

#include <cstddef>
#include <span>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/sha_unit.h"

namespace sluice::base {

constexpr std::size_t kWideShaMessages = 16;  ///< at most; fewer take as long
constexpr std::size_t kWideShaLeast = 9;      ///< fewer are hashed faster two by two (Zen 5)

/// True where the CPU has the instructions, and those of base/sha_unit.h, for a chain beside the sixteen: one
/// condition for all. The functions below may be called only there.
[[nodiscard]] bool has_wide_sha();

/// Digests of messages of one length, one each: of one message at least, of kWideShaMessages at most.
void hash_wide(std::span<const Bytes> messages, std::span<Sha256> digests);

constexpr std::size_t kBlocksBeside = 4;  ///< of a file, for each block of the sixteen

/// The same of messages of whole blocks; and feeds `blocks`, kBlocksBeside times as many bytes as a message
/// has, to the state of a hash of its own. Takes little longer than the former alone.
void compress_and_hash(ShaState<Sha256>& state, Bytes blocks, std::span<const Bytes> messages,
                       std::span<Sha256> digests);

}  // namespace sluice::base
