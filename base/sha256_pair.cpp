#include "base/sha256_pair.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/invariant.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace sluice::base {

#if defined(__x86_64__)

namespace {

constexpr std::size_t kBlockBytes = 64;
constexpr std::size_t kLanes = 2;

// FIPS 180-4, 4.2.2
alignas(16) constexpr std::uint32_t kRoundConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// FIPS 180-4, 5.3.3: H0 to H7 as the instructions want them, the first named word in the highest place.
alignas(16) constexpr std::uint32_t kInitialAbef[4] = {0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667};
alignas(16) constexpr std::uint32_t kInitialCdgh[4] = {0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372};

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))

struct Lane {
  __m128i abef;
  __m128i cdgh;
};

SHA_TARGET __m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

/// One block of each lane. The loops are unrolled, so that the schedule stays in registers.
SHA_TARGET void compress(Lane (&lanes)[kLanes], const std::byte* const (&blocks)[kLanes]) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i schedule[kLanes][4];
  const Lane before[kLanes] = {lanes[0], lanes[1]};
#pragma GCC unroll 16
  for (int step = 0; step < 16; ++step) {  // four rounds each
    const __m128i constants = load(kRoundConstants + 4 * step);
#pragma GCC unroll 2
    for (std::size_t i = 0; i < kLanes; ++i) {
      __m128i& now = schedule[i][step % 4];
      if (step < 4) {
        now = _mm_shuffle_epi8(load(blocks[i] + 16 * step), big_endian);
      } else {
        const __m128i last = schedule[i][(step + 3) % 4];
        const __m128i middle = _mm_alignr_epi8(last, schedule[i][(step + 2) % 4], 4);
        const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(now, schedule[i][(step + 1) % 4]), middle);
        now = _mm_sha256msg2_epu32(sum, last);
      }
      const __m128i words = _mm_add_epi32(now, constants);
      lanes[i].cdgh = _mm_sha256rnds2_epu32(lanes[i].cdgh, lanes[i].abef, words);
      lanes[i].abef = _mm_sha256rnds2_epu32(lanes[i].abef, lanes[i].cdgh, _mm_shuffle_epi32(words, 0x0e));
    }
  }
  for (std::size_t i = 0; i < kLanes; ++i) {
    lanes[i].abef = _mm_add_epi32(lanes[i].abef, before[i].abef);
    lanes[i].cdgh = _mm_add_epi32(lanes[i].cdgh, before[i].cdgh);
  }
}

SHA_TARGET Sha256 to_digest(const Lane& lane) {
  alignas(16) std::uint32_t abef[4];
  alignas(16) std::uint32_t cdgh[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(abef), lane.abef);
  _mm_store_si128(reinterpret_cast<__m128i*>(cdgh), lane.cdgh);
  const std::uint32_t words[8] = {abef[3], abef[2], cdgh[3], cdgh[2], abef[1], abef[0], cdgh[1], cdgh[0]};
  Sha256 digest;
  for (std::size_t i = 0; i < digest.bytes.size(); ++i)
    digest.bytes[i] = static_cast<std::byte>(words[i / 4] >> (24 - i % 4 * 8));
  return digest;
}

/// FIPS 180-4, 5.1.1: what is left of the message, a one bit, zeros, the length in bits. Returns its blocks.
std::size_t pad(Bytes rest, std::uint64_t message_bytes, std::array<std::byte, 2 * kBlockBytes>& out) {
  out.fill(std::byte{0});
  std::ranges::copy(rest, out.begin());
  out[rest.size()] = std::byte{0x80};
  const std::size_t blocks = rest.size() + 9 > kBlockBytes ? 2 : 1;
  for (std::size_t i = 0; i < 8; ++i)
    out[blocks * kBlockBytes - 1 - i] = static_cast<std::byte>(message_bytes * 8 >> 8 * i);
  return blocks;
}

bool detect() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return false;
  const bool ssse3 = (c >> 9 & 1) != 0;
  const bool sse41 = (c >> 19 & 1) != 0;
  if (!ssse3 || !sse41 || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (b >> 29 & 1) != 0;  // SHA
}

}  // namespace

bool has_sha256_pair() {
  static const bool has = detect();
  return has;
}

SHA_TARGET std::array<Sha256, 2> hash_pair(Bytes a, Bytes b) {
  INVARIANT(a.size() == b.size() && has_sha256_pair());
  const Lane initial{load(kInitialAbef), load(kInitialCdgh)};
  Lane lanes[kLanes] = {initial, initial};
  const std::size_t whole_bytes = a.size() / kBlockBytes * kBlockBytes;
  for (std::size_t at = 0; at < whole_bytes; at += kBlockBytes)
    compress(lanes, {a.data() + at, b.data() + at});
  std::array<std::byte, 2 * kBlockBytes> tails[kLanes];
  const std::size_t blocks = pad(a.subspan(whole_bytes), a.size(), tails[0]);
  pad(b.subspan(whole_bytes), b.size(), tails[1]);
  for (std::size_t i = 0; i < blocks; ++i)
    compress(lanes, {tails[0].data() + i * kBlockBytes, tails[1].data() + i * kBlockBytes});
  return {to_digest(lanes[0]), to_digest(lanes[1])};
}

#else

bool has_sha256_pair() { return false; }

std::array<Sha256, 2> hash_pair(Bytes, Bytes) { INVARIANT(false); }

#endif

}  // namespace sluice::base
