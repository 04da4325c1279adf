// SHA-1 and SHA-256 with the SHA extensions, for one or two messages per call. With two, the compiler
// interleaves the rounds of both, because the loops over lanes are unrolled inside the loops over rounds.
// Function attributes enable the instructions; has_sha_unit() asks the CPU.

#include "base/sha_unit.h"

#include "base/invariant.h"
#include "base/sha256_rounds.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sluice::base {

#if defined(__x86_64__)

namespace {

using namespace sha_rounds;

/// A state in the word order of the instructions: the first named word is the highest.
struct Sha1Lane {
  using State = ShaState<Sha1>;
  __m128i abcd;
  __m128i e;  // the highest word; the lower ones are zero

  SHA_INLINE static Sha1Lane from(const State& h) {
    return {_mm_set_epi32(as_int(h[0]), as_int(h[1]), as_int(h[2]), as_int(h[3])),
            _mm_set_epi32(as_int(h[4]), 0, 0, 0)};
  }
  SHA_INLINE State to_state() const {
    return {word(abcd, 3), word(abcd, 2), word(abcd, 1), word(abcd, 0), word(e, 3)};
  }
};

/// Twenty rounds of each lane, which share the function and constant kFunction (FIPS 180-4, 4.1.1 and 4.2.1).
template <int kFunction, std::size_t kLanes>
SHA_INLINE void twenty_rounds(Sha1Lane (&lanes)[kLanes], __m128i (&schedule)[kLanes][4],
                              const std::byte* const (&blocks)[kLanes]) {
  // Reverses all 16 bytes: SHA-1 reads its words as big-endian, and the instructions want the first word
  // highest.
  const __m128i big_endian = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
#pragma GCC unroll 5
  for (int step = 5 * kFunction; step < 5 * kFunction + 5; ++step) {  // four rounds each
#pragma GCC unroll 2
    for (std::size_t i = 0; i < kLanes; ++i) {
      __m128i& now = schedule[i][step % 4];
      if (step < 4) {
        now = _mm_shuffle_epi8(load(blocks[i] + 16 * step), big_endian);
      } else {
        // FIPS 180-4, 6.1.2, step 1, for four words at once. The schedule is a ring of the last sixteen
        // words.
        const __m128i sum = _mm_sha1msg1_epu32(now, schedule[i][(step + 1) % 4]);
        now =
            _mm_sha1msg2_epu32(_mm_xor_si128(sum, schedule[i][(step + 2) % 4]), schedule[i][(step + 3) % 4]);
      }
      // Between steps `e` holds the A of four rounds ago, from which sha1nexte computes the next E.
      const __m128i words = step == 0 ? _mm_add_epi32(lanes[i].e, now) : _mm_sha1nexte_epu32(lanes[i].e, now);
      lanes[i].e = lanes[i].abcd;
      lanes[i].abcd = _mm_sha1rnds4_epu32(lanes[i].abcd, words, kFunction);
    }
  }
}

template <std::size_t kLanes>
SHA_INLINE void take_block(Sha1Lane (&lanes)[kLanes], const std::byte* const (&blocks)[kLanes]) {
  __m128i schedule[kLanes][4];
  Sha1Lane before[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) before[i] = lanes[i];
  twenty_rounds<0>(lanes, schedule, blocks);
  twenty_rounds<1>(lanes, schedule, blocks);
  twenty_rounds<2>(lanes, schedule, blocks);
  twenty_rounds<3>(lanes, schedule, blocks);
  for (std::size_t i = 0; i < kLanes; ++i) {
    // FIPS 180-4, 6.1.2, step 4: the state before the block is added. Here sha1nexte rotates the last A to E
    // and adds the old E.
    lanes[i].e = _mm_sha1nexte_epu32(lanes[i].e, before[i].e);
    lanes[i].abcd = _mm_add_epi32(lanes[i].abcd, before[i].abcd);
  }
}

template <std::size_t kLanes>
SHA_INLINE void take_block(Sha256Lane (&lanes)[kLanes], const std::byte* const (&blocks)[kLanes]) {
  __m128i schedule[kLanes][4];
  Sha256Lane before[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) before[i] = lanes[i];
#pragma GCC unroll 16
  for (int step = 0; step < 16; ++step) {
#pragma GCC unroll 2
    // The loop over lanes is the inner one: the rounds of the two messages alternate in the instruction
    // stream, and each fills the time in which the other waits for its last result.
    for (std::size_t i = 0; i < kLanes; ++i) four_rounds(step, blocks[i], schedule[i], lanes[i]);
  }
  for (std::size_t i = 0; i < kLanes; ++i) add(before[i], lanes[i]);
}

template <typename Lane>
SHA_INLINE void take_blocks(typename Lane::State& state, const std::byte* blocks, std::size_t count) {
  Lane lanes[1] = {Lane::from(state)};
  for (; count > 0; --count, blocks += kShaBlockBytes) take_block<1>(lanes, {blocks});
  state = lanes[0].to_state();
}

template <typename Lane>
SHA_INLINE void take_blocks_of_two(typename Lane::State& a, const std::byte* blocks_of_a,
                                   typename Lane::State& b, const std::byte* blocks_of_b, std::size_t count) {
  Lane lanes[2] = {Lane::from(a), Lane::from(b)};
  for (; count > 0; --count, blocks_of_a += kShaBlockBytes, blocks_of_b += kShaBlockBytes)
    take_block<2>(lanes, {blocks_of_a, blocks_of_b});
  a = lanes[0].to_state();
  b = lanes[1].to_state();
}

bool detect() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return false;
  // CPUID leaf 1, ECX: SSSE3 and SSE4.1, which the byte shuffles and extracts need. Leaf 7, EBX, bit 29: the
  // SHA extensions.
  const bool ssse3 = (c >> 9 & 1) != 0;
  const bool sse41 = (c >> 19 & 1) != 0;
  if (!ssse3 || !sse41 || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (b >> 29 & 1) != 0;  // SHA
}

}  // namespace

bool has_sha_unit() {
  static const bool has = detect();
  return has;
}

SHA_TARGET void compress(ShaState<Sha1>& state, const std::byte* blocks, std::size_t count) {
  take_blocks<Sha1Lane>(state, blocks, count);
}

SHA_TARGET void compress(ShaState<Sha256>& state, const std::byte* blocks, std::size_t count) {
  take_blocks<Sha256Lane>(state, blocks, count);
}

SHA_TARGET void compress_pair(ShaState<Sha1>& a, const std::byte* blocks_of_a, ShaState<Sha1>& b,
                              const std::byte* blocks_of_b, std::size_t count) {
  take_blocks_of_two<Sha1Lane>(a, blocks_of_a, b, blocks_of_b, count);
}

SHA_TARGET void compress_pair(ShaState<Sha256>& a, const std::byte* blocks_of_a, ShaState<Sha256>& b,
                              const std::byte* blocks_of_b, std::size_t count) {
  take_blocks_of_two<Sha256Lane>(a, blocks_of_a, b, blocks_of_b, count);
}

#else

bool has_sha_unit() { return false; }

void compress(ShaState<Sha1>&, const std::byte*, std::size_t) { INVARIANT(false); }
void compress(ShaState<Sha256>&, const std::byte*, std::size_t) { INVARIANT(false); }
void compress_pair(ShaState<Sha1>&, const std::byte*, ShaState<Sha1>&, const std::byte*, std::size_t) {
  INVARIANT(false);
}
void compress_pair(ShaState<Sha256>&, const std::byte*, ShaState<Sha256>&, const std::byte*, std::size_t) {
  INVARIANT(false);
}

#endif

}  // namespace sluice::base
