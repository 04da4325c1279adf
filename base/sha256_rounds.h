#pragma once
// SHA-256 by the CPU's SHA instructions, four rounds at a time, so that other instructions can be
// interleaved. Included only by files that check that the CPU has the instructions.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/sha_unit.h"

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define SHA_INLINE SHA_TARGET __attribute__((always_inline)) inline

// All functions are always inlined, into functions with the same target or more: the linker might otherwise
// choose a copy with these instructions for a caller that runs on any CPU.
namespace sluice::base::sha_rounds {

// FIPS 180-4, 4.2.2
alignas(16) inline constexpr std::uint32_t kConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

SHA_INLINE __m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

SHA_INLINE int as_int(std::uint32_t word) { return static_cast<int>(word); }

SHA_INLINE std::uint32_t word(__m128i words, int index) {
  alignas(16) std::uint32_t all[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(all), words);
  return all[index];
}

/// A state in the word order of the instructions: the first named word is the highest.
struct Sha256Lane {
  using State = ShaState<Sha256>;
  __m128i abef;
  __m128i cdgh;

  SHA_INLINE static Sha256Lane from(const State& h) {
    return {_mm_set_epi32(as_int(h[0]), as_int(h[1]), as_int(h[4]), as_int(h[5])),
            _mm_set_epi32(as_int(h[2]), as_int(h[3]), as_int(h[6]), as_int(h[7]))};
  }
  SHA_INLINE State to_state() const {
    return {word(abef, 3), word(abef, 2), word(cdgh, 3), word(cdgh, 2),
            word(abef, 1), word(abef, 0), word(cdgh, 1), word(cdgh, 0)};
  }
};

/// Rounds 4 * step to 4 * step + 3 (FIPS 180-4, 6.2.2).
SHA_INLINE void four_rounds(int step, const std::byte* block, __m128i (&schedule)[4], Sha256Lane& lane) {
  __m128i& now = schedule[step % 4];
  if (step < 4) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    now = _mm_shuffle_epi8(load(block + 16 * step), big_endian);
  } else {
    const __m128i last = schedule[(step + 3) % 4];
    const __m128i middle = _mm_alignr_epi8(last, schedule[(step + 2) % 4], 4);
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(now, schedule[(step + 1) % 4]), middle);
    now = _mm_sha256msg2_epu32(sum, last);
  }
  const __m128i words = _mm_add_epi32(now, load(kConstants + 4 * step));
  lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, words);
  lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32(words, 0x0e));
}

SHA_INLINE void add(const Sha256Lane& before, Sha256Lane& lane) {
  lane.abef = _mm_add_epi32(lane.abef, before.abef);
  lane.cdgh = _mm_add_epi32(lane.cdgh, before.cdgh);
}

}  // namespace sluice::base::sha_rounds

#endif
