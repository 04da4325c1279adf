#pragma once
// SHA-256 (FIPS 180-4) of up to sixteen messages at a time, each in a 32-bit lane of AVX-512 registers:
// nearly twice as fast as the SHA instructions with two messages (measured on Zen 5: 5.7 and 3.0 GB/s a
// core). Suits the leaves of trees, which are many, independent, and of the same length.

#include <cstddef>
#include <span>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/sha_unit.h"

namespace sluice::base {

constexpr std::size_t kWideShaMessages = 16;  ///< at most; fewer messages take the same time
constexpr std::size_t kWideShaLeast = 9;      ///< fewer messages are faster two by two (measured on Zen 5)

/// True when the CPU has AVX-512 and the SHA instructions (sha_unit.h), which a chain needs that is
/// interleaved with the sixteen messages. The functions below may be called only then.
[[nodiscard]] bool has_wide_sha();

/// Writes one digest for each of 1 to kWideShaMessages messages of the same length.
void hash_wide(std::span<const Bytes> messages, std::span<Sha256> digests);

constexpr std::size_t kInterleavedBlocks = 4;  ///< blocks of the chain for each block of the sixteen messages

/// hash_wide() of messages that are whole blocks, and interleaved with it feeds `blocks` to the state of
/// another hash. `blocks` is kInterleavedBlocks times as long as a message. Takes little longer than
/// hash_wide() alone.
void compress_and_hash(ShaState<Sha256>& state, Bytes blocks, std::span<const Bytes> messages,
                       std::span<Sha256> digests);

}  // namespace sluice::base
