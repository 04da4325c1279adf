#pragma once
// SHA-1 and SHA-256 (FIPS 180-4) by the CPU's SHA instructions: of one message, or of two side by side. One
// message leaves the unit idle for half of the time and more, since each round waits for the one before it;
// two that are interleaved fill it. Padding and the end of a message are the caller's (lane_hasher.h).

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/digest.h"

namespace sluice::base {

constexpr std::size_t kShaBlockBytes = 64;

/// H0, H1, ... between two blocks. D is Sha1 or Sha256.
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

/// True where the CPU has the instructions; the functions below may be called only there.
[[nodiscard]] bool has_sha_unit();

/// Takes `count` blocks of 64 bytes into the state.
void compress(ShaState<Sha1>& state, const std::byte* blocks, std::size_t count);
void compress(ShaState<Sha256>& state, const std::byte* blocks, std::size_t count);

/// The same of two messages that have nothing to do with each other, `count` blocks of each.
void compress_pair(ShaState<Sha1>& a, const std::byte* blocks_of_a, ShaState<Sha1>& b,
                   const std::byte* blocks_of_b, std::size_t count);
void compress_pair(ShaState<Sha256>& a, const std::byte* blocks_of_a, ShaState<Sha256>& b,
                   const std::byte* blocks_of_b, std::size_t count);

}  // namespace sluice::base
