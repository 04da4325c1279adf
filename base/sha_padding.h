#pragma once
// How a message of SHA-1 or SHA-256 ends, and a state becomes a digest.

#include <algorithm>
#include <cstdint>

#include "base/bytes.h"
#include "base/sha_unit.h"

namespace sluice::base {

/// Of a message that has so many bytes behind its last whole block.
[[nodiscard]] constexpr std::size_t sha_tail_blocks(std::size_t rest_bytes) {
  return rest_bytes + 1 + sizeof(std::uint64_t) > kShaBlockBytes ? 2 : 1;
}

/// FIPS 180-4, 5.1.1: behind the rest of the message a one bit, zeros, the length in bits. `tail` has room for
/// sha_tail_blocks(rest.size()).
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
