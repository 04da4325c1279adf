#pragma once
// SHA-256 by the CPU's SHA instructions, four rounds at a time, to be interleaved with something else. Seen
// only by files that make sure that the CPU has them.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/sha_constants.h"
#include "base/sha_unit.h"

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define SHA_INLINE SHA_TARGET __attribute__((always_inline)) inline

// Everything here is one straight run of instructions in the end, with all that it works on in registers.
namespace sluice::base {

SHA_INLINE __m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

SHA_INLINE int as_int(std::uint32_t word) { return static_cast<int>(word); }

SHA_INLINE std::uint32_t word(__m128i words, int index) {
  alignas(16) std::uint32_t all[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(all), words);
  return all[index];
}

/// A state as the instructions want it: the first named word in the highest place.
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

/// Rounds 4 step to 4 step + 3 (FIPS 180-4, 6.2.2).
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
  const __m128i words = _mm_add_epi32(now, load(kSha256Constants + 4 * step));
  lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, words);
  lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32(words, 0x0e));
}

SHA_INLINE void add(const Sha256Lane& before, Sha256Lane& lane) {
  lane.abef = _mm_add_epi32(lane.abef, before.abef);
  lane.cdgh = _mm_add_epi32(lane.cdgh, before.cdgh);
}

}  // namespace sluice::base

#endif
