// SHA-256 of sixteen messages in AVX-512 lanes. The code is compiled for AVX-512 by function attributes, so
// that the rest of the program runs on any CPU; has_wide_sha() decides at run time. Everything here is called
// by one thread at a time for its own messages and keeps no state.

#include "base/wide_sha.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/invariant.h"
#include "base/sha256_rounds.h"

namespace sluice::base {

#if defined(__x86_64__)

namespace {

#define WIDE_TARGET __attribute__((target("avx512f,avx512bw,sha,sse4.1,ssse3")))
#define WIDE_INLINE WIDE_TARGET __attribute__((always_inline)) inline

constexpr std::size_t kAheadBytes = 512;  // sixteen streams are more than the hardware prefetcher follows

using Pointers = std::array<const std::byte*, kWideShaMessages>;

/// Register i holds word i of every message.
using State = __m512i[8];
using Schedule = __m512i[16];

// The instruction computes any function of three bits. Its last argument is the truth table: bit 4x + 2y + z
// is the result for the bits x, y and z.
WIDE_INLINE __m512i exclusive_or(__m512i a, __m512i b, __m512i c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

// FIPS 180-4, 4.1.2
WIDE_INLINE __m512i choose(__m512i x, __m512i y, __m512i z) {
  return _mm512_ternarylogic_epi32(x, y, z, 0xCA);
}

WIDE_INLINE __m512i majority(__m512i x, __m512i y, __m512i z) {
  return _mm512_ternarylogic_epi32(x, y, z, 0xE8);
}

// FIPS 180-4, 4.1.2: the capital sigmas have three rotations, and the small ones two rotations and a shift.
template <int kFirst, int kSecond, int kThird>
WIDE_INLINE __m512i big_sigma(__m512i x) {
  return exclusive_or(_mm512_ror_epi32(x, kFirst), _mm512_ror_epi32(x, kSecond), _mm512_ror_epi32(x, kThird));
}

template <int kFirst, int kSecond, int kShift>
WIDE_INLINE __m512i small_sigma(__m512i x) {
  return exclusive_or(_mm512_ror_epi32(x, kFirst), _mm512_ror_epi32(x, kSecond),
                      _mm512_srli_epi32(x, kShift));
}

/// A separate message. The SHA unit computes four of its rounds after every round of the sixteen messages, so
/// four of its blocks for each of theirs. This fits almost entirely into the time in which the AVX-512 rounds
/// wait for each other.
struct ShaUnitChain {
  sha_rounds::Sha256Lane lane;
  sha_rounds::Sha256Lane before;
  __m128i schedule[4];
  const std::byte* next;

  WIDE_INLINE void after_round(int t) {  // t: 0 to 15
    if (t == 0) before = lane;
    sha_rounds::four_rounds(t, next, schedule, lane);
    if (t != 15) return;
    sha_rounds::add(before, lane);
    next += kShaBlockBytes;
  }
};

struct NoChain {
  WIDE_INLINE void after_round(int) {}
};

/// Loads the next block of every message and transposes 16 messages x 16 words: words[i] holds word i of
/// every message.
WIDE_INLINE void load(const Pointers& messages, std::size_t offset_bytes, Schedule& words) {
  // Reverses the bytes of each 32-bit word: SHA-256 reads its words as big-endian.
  const __m512i big_endian = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
  __m512i pairs[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    __builtin_prefetch(messages[i] + offset_bytes + kAheadBytes, 0, 2);
    __builtin_prefetch(messages[i + 1] + offset_bytes + kAheadBytes, 0, 2);
    const __m512i even = _mm512_shuffle_epi8(_mm512_loadu_si512(messages[i] + offset_bytes), big_endian);
    const __m512i odd = _mm512_shuffle_epi8(_mm512_loadu_si512(messages[i + 1] + offset_bytes), big_endian);
    pairs[i] = _mm512_unpacklo_epi32(even, odd);
    pairs[i + 1] = _mm512_unpackhi_epi32(even, odd);
  }
  // quads[i + j], j < 4, has the words j, 4 + j, 8 + j and 12 + j of the messages i to i + 3.
  __m512i quads[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xDD);
    const __m512i odd_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xDD);
    words[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    words[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    words[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xDD);
    words[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xDD);
  }
}

// FIPS 180-4, 6.2.2. An instruction takes two cycles (Zen 5), and each round waits for the new E and A of the
// previous round: so their sums are ordered to need few instructions after those values. Two sets of sixteen
// messages at once gained only 5 %, because their schedules do not fit into the registers. The letters do not
// move between registers; their names do: in round t, letter k of "abcdefgh" is at (k - t) % 8.
template <typename Chain>
WIDE_INLINE void take_block(State& state, Schedule& words, Chain& chain) {
  State letters;
  for (int i = 0; i < 8; ++i) letters[i] = state[i];
  for (int first = 0; first < 64; first += 16) {
#pragma GCC unroll 16
    for (int t = 0; t < 16; ++t) {
      const auto at = [t](int letter) { return (letter + 16 - t) % 8; };
      // FIPS 180-4, 6.2.2, step 1. The schedule is a ring of sixteen words: each new word replaces the one
      // sixteen before it. The first sixteen words are the block itself.
      if (first > 0) {
        const __m512i sum = _mm512_add_epi32(words[t], words[(t + 9) % 16]);
        const __m512i sigmas = _mm512_add_epi32(small_sigma<17, 19, 10>(words[(t + 14) % 16]),
                                                small_sigma<7, 18, 3>(words[(t + 1) % 16]));
        words[t] = _mm512_add_epi32(sum, sigmas);
      }
      const __m512i constant = _mm512_set1_epi32(static_cast<int>(sha_rounds::kConstants[first + t]));
      const __m512i a = letters[at(0)];
      const __m512i e = letters[at(4)];
      const __m512i fed = _mm512_add_epi32(letters[at(7)], _mm512_add_epi32(words[t], constant));
      const __m512i fed_to_e = _mm512_add_epi32(letters[at(3)], fed);
      const __m512i sigma = big_sigma<6, 11, 25>(e);
      const __m512i choice = choose(e, letters[at(5)], letters[at(6)]);
      letters[at(3)] = _mm512_add_epi32(_mm512_add_epi32(fed_to_e, choice), sigma);
      const __m512i first_sum = _mm512_add_epi32(_mm512_add_epi32(fed, choice), sigma);
      letters[at(7)] = _mm512_add_epi32(
          _mm512_add_epi32(first_sum, majority(a, letters[at(1)], letters[at(2)])), big_sigma<2, 13, 22>(a));
      chain.after_round(t);
    }
  }
  for (int i = 0; i < 8; ++i) state[i] = _mm512_add_epi32(state[i], letters[i]);
}

template <typename Chain>
WIDE_TARGET void compress(State& state, const Pointers& messages, std::size_t count, Chain& chain) {
  Schedule words;
  for (std::size_t block = 0; block < count; ++block) {
    load(messages, block * kShaBlockBytes, words);
    take_block(state, words, chain);
  }
}

/// Hashes messages of the same length and runs `chain` between the rounds. Unused lanes repeat the last
/// message.
template <typename Chain>
WIDE_TARGET void hash_interleaved(std::span<const Bytes> messages, std::span<Sha256> digests, Chain& chain) {
  const std::size_t length_bytes = messages[0].size();
  const std::size_t rest_bytes = length_bytes % kShaBlockBytes;
  const std::size_t tail_blocks = sha_tail_blocks(rest_bytes);
  Pointers pointers;
  Pointers tail_pointers;
  // The whole blocks are read where they lie. Only the tails with the padding are copied: at most two blocks
  // per message.
  std::byte tails[kWideShaMessages][2 * kShaBlockBytes];
  for (std::size_t lane = 0; lane < kWideShaMessages; ++lane) {
    const Bytes message = messages[std::min(lane, messages.size() - 1)];
    INVARIANT(message.size() == length_bytes);
    pointers[lane] = message.data();
    tail_pointers[lane] = tails[lane];
    write_sha_tail(message.last(rest_bytes), length_bytes,
                   MutableBytes(tails[lane]).first(tail_blocks * kShaBlockBytes));
  }
  State state;
  for (std::size_t word = 0; word < 8; ++word)
    state[word] = _mm512_set1_epi32(static_cast<int>(kShaStart<Sha256>[word]));
  compress(state, pointers, length_bytes / kShaBlockBytes, chain);
  // The tails have other lengths than the messages' blocks, so the chain has no part in them.
  NoChain nothing;
  compress(state, tail_pointers, tail_blocks, nothing);
  // Transposes the states back: from a register per word to a state per message.
  std::array<ShaState<Sha256>, kWideShaMessages> of_message;
  for (std::size_t word = 0; word < 8; ++word) {
    std::uint32_t lanes[kWideShaMessages];
    _mm512_storeu_si512(lanes, state[word]);
    for (std::size_t i = 0; i < kWideShaMessages; ++i) of_message[i][word] = lanes[i];
  }
  for (std::size_t i = 0; i < messages.size(); ++i) digests[i] = to_digest<Sha256>(of_message[i]);
}

}  // namespace

bool has_wide_sha() {
  static const bool has =
      has_sha_unit() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  return has;
}

WIDE_TARGET void hash_wide(std::span<const Bytes> messages, std::span<Sha256> digests) {
  INVARIANT(!messages.empty() && messages.size() <= kWideShaMessages && messages.size() == digests.size());
  NoChain nothing;
  hash_interleaved(messages, digests, nothing);
}

WIDE_TARGET void compress_and_hash(ShaState<Sha256>& state, Bytes blocks, std::span<const Bytes> messages,
                                   std::span<Sha256> digests) {
  INVARIANT(!messages.empty() && messages.size() <= kWideShaMessages && messages.size() == digests.size());
  INVARIANT(messages[0].size() % kShaBlockBytes == 0 &&
            blocks.size() == kInterleavedBlocks * messages[0].size());
  ShaUnitChain chain{
      .lane = sha_rounds::Sha256Lane::from(state), .before = {}, .schedule = {}, .next = blocks.data()};
  hash_interleaved(messages, digests, chain);
  state = chain.lane.to_state();
}

#else

bool has_wide_sha() { return false; }

void hash_wide(std::span<const Bytes>, std::span<Sha256>) { INVARIANT(false); }
void compress_and_hash(ShaState<Sha256>&, Bytes, std::span<const Bytes>, std::span<Sha256>) {
  INVARIANT(false);
}

#endif

}  // namespace sluice::base
