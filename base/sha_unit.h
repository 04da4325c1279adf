#pragma once
// SHA-1 and SHA-256 (FIPS 180-4) by the CPU's SHA instructions, for one message or for two at once. One
// message leaves the unit idle at least half of the time, since each round waits for the previous one; two
// interleaved messages keep it busy. Hashers (paired_hasher.h, wide_sha.h) add the padding at the end of a
// message.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/digest.h"

namespace sluice::base {

constexpr std::size_t kShaBlockBytes = 64;

/// The words H0, H1, ... between two blocks. D is Sha1 or Sha256.
template <typename D>
using ShaState = std::array<std::uint32_t, D::kBytes / sizeof(std::uint32_t)>;

template <typename D>
inline constexpr ShaState<D> kShaStart;
template <>
inline constexpr ShaState<Sha1> kShaStart<Sha1> = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476,
                                                   0xc3d2e1f0};  // FIPS 180-4, 5.3.1
template <>
inline constexpr ShaState<Sha256> kShaStart<Sha256> = {0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                                       0xa54ff53a, 0x510e527f, 0x9b05688c,
                                                       0x1f83d9ab, 0x5be0cd19};  // FIPS 180-4, 5.3.3

/// True when the CPU has the instructions. compress() and compress_pair() may be called only then.
[[nodiscard]] bool has_sha_unit();

/// Feeds `count` blocks of 64 bytes to the state.
void compress(ShaState<Sha1>& state, const std::byte* blocks, std::size_t count);
void compress(ShaState<Sha256>& state, const std::byte* blocks, std::size_t count);

/// Feeds `count` blocks to each of two independent states.
void compress_pair(ShaState<Sha1>& a, const std::byte* blocks_of_a, ShaState<Sha1>& b,
                   const std::byte* blocks_of_b, std::size_t count);
void compress_pair(ShaState<Sha256>& a, const std::byte* blocks_of_a, ShaState<Sha256>& b,
                   const std::byte* blocks_of_b, std::size_t count);

/// The number of blocks that end a message which has `rest_bytes` after its last whole block.
[[nodiscard]] constexpr std::size_t sha_tail_blocks(std::size_t rest_bytes) {
  return rest_bytes + 1 + sizeof(std::uint64_t) > kShaBlockBytes ? 2 : 1;
}

/// Writes these blocks (FIPS 180-4, 5.1.1): the rest of the message, a one bit, zeros, and the length of the
/// message in bits. `tail` has sha_tail_blocks(rest.size()) blocks.
inline void write_sha_tail(Bytes rest, std::uint64_t message_bytes, MutableBytes tail) {
  std::ranges::fill(tail, std::byte{0});
  std::ranges::copy(rest, tail.begin());
  tail[rest.size()] = std::byte{0x80};
  for (std::size_t i = 0; i < sizeof(std::uint64_t); ++i)
    tail[tail.size() - 1 - i] = static_cast<std::byte>(message_bytes * 8 >> 8 * i);
}

template <typename D>
[[nodiscard]] D to_digest(const ShaState<D>& state) {
  D digest;
  for (std::size_t i = 0; i < D::kBytes; ++i)
    digest.bytes[i] = static_cast<std::byte>(state[i / 4] >> (24 - i % 4 * 8));
  return digest;
}

}  // namespace sluice::base
