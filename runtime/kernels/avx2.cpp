// The kernels for AVX2 and FMA (Haswell, Zen and later), without VNNI.
//
// vpmaddubsw multiplies u8 x s8 and adds pairs in saturating 16 bits. Nothing here can saturate: |w| <= 128
// as u8 times |x| <= 127 makes pairs of at most 2 x 128 x 127 = 32512 < 32768.

#include <immintrin.h>

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "avx2";

#include "runtime/kernels/simd.h"

#include "runtime/kernels/float_kernels.h"

inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline __m256i broadcast_quad(const std::int8_t* p) {
  std::int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

// Sub-scales of one group for 64 outputs, as s32, eight a register.
struct SubScales {
  __m256i part[8];
};

inline SubScales load_sub_scales(const PanelView& panel, std::size_t tile, std::size_t group) {
  const std::byte* packed = panel.magnitudes + tile * 128 + group * 32;
  const std::byte* signs = panel.signs + tile * 32 + group * 8;
  const __m256i bit_of_lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  SubScales scales;
  for (std::size_t i = 0; i < 8; ++i) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(packed + i % 4 * 8));
    const __m256i wide = _mm256_cvtepu8_epi32(bytes);
    const __m256i nibble = i < 4 ? _mm256_and_si256(wide, _mm256_set1_epi32(15)) : _mm256_srli_epi32(wide, 4);
    const __m256i magnitude = _mm256_add_epi32(nibble, _mm256_set1_epi32(1));
    const __m256i sign_bits = _mm256_set1_epi32(static_cast<int>(signs[i]));
    const __m256i negative = _mm256_cmpeq_epi32(_mm256_and_si256(sign_bits, bit_of_lane), bit_of_lane);
    // x xor -1 minus -1 is -x.
    scales.part[i] = _mm256_sub_epi32(_mm256_xor_si256(magnitude, negative), negative);
  }
  return scales;
}

inline __m256i scale_codes(__m256i nibbles, __m256i scale) {
  const __m256i codes = _mm256_sub_epi8(nibbles, _mm256_set1_epi8(8));
  const __m256i low = _mm256_mullo_epi16(codes, scale);
  const __m256i high = _mm256_mullo_epi16(_mm256_srli_epi16(codes, 8), scale);
  return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi16(0x00FF)), _mm256_slli_epi16(high, 8));
}

void unpack_q4(const PanelView& panel, std::size_t first_tile, std::size_t count, std::int8_t* tiles) {
  const __m256i mask = _mm256_set1_epi8(15);
  for (std::size_t t = 0; t < count; ++t) {
    const std::byte* packed = panel.codes + (first_tile + t) * 2048;
    std::int8_t* out = tiles + t * 4096;
    for (std::size_t group = 0; group < 4; ++group) {
      const SubScales scales = load_sub_scales(panel, first_tile + t, group);
      for (std::size_t i = 0; i < 8; ++i) {
        const __m256i low_half = _mm256_and_si256(scales.part[i], _mm256_set1_epi32(0xFFFF));
        const __m256i scale = _mm256_or_si256(low_half, _mm256_slli_epi32(scales.part[i], 16));
        for (std::size_t pair = 0; pair < 2; ++pair) {
          const __m256i both = load256(packed + (group * 2 + pair) * 256 + i * 32);
          std::int8_t* quad = out + (group * 4 + pair * 2) * 256 + i * 32;
          store256(quad, scale_codes(_mm256_and_si256(both, mask), scale));
          store256(quad + 256, scale_codes(_mm256_and_si256(_mm256_srli_epi16(both, 4), mask), scale));
        }
      }
    }
  }
}

void bias_sums(const std::int8_t* tiles, std::size_t count, std::int32_t* sums) {
  __m256i total[8] = {};
  const __m256i ones8 = _mm256_set1_epi8(1);
  const __m256i ones16 = _mm256_set1_epi16(1);
  for (std::size_t quad = 0; quad < count * 16; ++quad)
    for (std::size_t i = 0; i < 8; ++i) {
      const __m256i pairs = _mm256_maddubs_epi16(ones8, load256(tiles + quad * 256 + i * 32));
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs, ones16));
    }
  for (std::size_t i = 0; i < 8; ++i) store256(sums + i * 8, _mm256_slli_epi32(total[i], 7));
}

template <int kRows>
void q8_sums(const std::int8_t* tiles, std::size_t count, const std::int8_t* codes, std::size_t row_stride,
             const std::int32_t*, std::int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (std::size_t half = 0; half < 2;
       ++half) {  // 32 outputs at a time, so that the totals stay in registers
    for (std::size_t r = 0; r < kRows; ++r) {
      __m256i total[4] = {};
      for (std::size_t quad = 0; quad < count * 16; ++quad) {
        const __m256i x = broadcast_quad(codes + r * row_stride + quad * 4);
        for (std::size_t i = 0; i < 4; ++i) {
          const __m256i w = load256(tiles + quad * 256 + half * 128 + i * 32);
          const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
          total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs, ones));
        }
      }
      for (std::size_t i = 0; i < 4; ++i) store256(sums + r * 64 + half * 32 + i * 8, total[i]);
    }
  }
}

void q4_sums(const PanelView& panel, std::size_t first_tile, std::size_t count, const std::int8_t* codes,
             const std::int32_t* group_sums, std::size_t group_stride, std::int32_t* sums) {
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i total[8] = {};
  for (std::size_t t = 0; t < count; ++t) {
    const std::byte* packed = panel.codes + (first_tile + t) * 2048;
    for (std::size_t group = 0; group < 4; ++group) {
      const SubScales scales = load_sub_scales(panel, first_tile + t, group);
      const __m256i bias = _mm256_set1_epi32(8 * group_sums[(t * 4 + group) * group_stride]);
      const std::int8_t* x = codes + t * 64 + group * 16;
      for (std::size_t i = 0; i < 8; ++i) {
        // Four quads of at most 2 x 15 x 127 add up to 15240, within 16 bits.
        __m256i pairs = _mm256_setzero_si256();
        for (std::size_t pair = 0; pair < 2; ++pair) {
          const __m256i both = load256(packed + (group * 2 + pair) * 256 + i * 32);
          const __m256i even = _mm256_and_si256(both, mask);
          const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(even, broadcast_quad(x + pair * 8)));
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(odd, broadcast_quad(x + pair * 8 + 4)));
        }
        const __m256i sum = _mm256_sub_epi32(_mm256_madd_epi16(pairs, ones), bias);
        total[i] = _mm256_add_epi32(total[i], _mm256_mullo_epi32(sum, scales.part[i]));
      }
    }
  }
  for (std::size_t i = 0; i < 8; ++i) store256(sums + i * 8, total[i]);
}

#include "runtime/kernels/integer_products.h"

}  // namespace

const Kernels& avx2_kernels() { return kTable; }

}  // namespace sluice::runtime
