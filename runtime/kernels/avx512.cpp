// The kernels for AVX-512 with VNNI (Ice Lake, Zen 4 and later).

#include <immintrin.h>

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "avx512";

#include "runtime/kernels/simd.h"

#include "runtime/kernels/float_kernels.h"
#include "runtime/kernels/prefetch.h"

inline __m512i load512(const void* p) { return _mm512_loadu_si512(p); }

// Four activations, the same for all sixteen outputs of a register.
inline __m512i broadcast_quad(const std::int8_t* p) {
  std::int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

// Sub-scales of one group for 64 outputs, as s32, sixteen a register.
struct SubScales {
  __m512i part[4];
};

inline SubScales load_sub_scales(const PanelView& panel, std::size_t group) {
  const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel.magnitudes + group * 32));
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i halves[2] = {_mm256_and_si256(packed, mask),
                             _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask)};
  std::uint64_t signs;
  __builtin_memcpy(&signs, panel.signs + group * 8, sizeof(signs));
  SubScales scales;
  for (int i = 0; i < 4; ++i) {
    const __m128i bytes =
        i % 2 == 0 ? _mm256_castsi256_si128(halves[i / 2]) : _mm256_extracti128_si256(halves[i / 2], 1);
    const __m512i magnitude = _mm512_add_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(1));
    const auto negative = static_cast<__mmask16>(signs >> (16 * i));
    scales.part[i] = _mm512_mask_sub_epi32(magnitude, negative, _mm512_setzero_si512(), magnitude);
  }
  return scales;
}

// code * scale in every byte; the products fit int8, so the low bytes of 16-bit products are enough.
// `scale` holds the sub-scale in both halves of each 32 bits.
inline __m512i scale_codes(__m512i nibbles, __m512i scale) {
  const __m512i codes = _mm512_sub_epi8(nibbles, _mm512_set1_epi8(8));
  const __m512i low = _mm512_mullo_epi16(codes, scale);
  const __m512i high = _mm512_mullo_epi16(_mm512_srli_epi16(codes, 8), scale);
  return _mm512_mask_blend_epi8(0xAAAAAAAAAAAAAAAAull, low, _mm512_slli_epi16(high, 8));
}

// totals[i] = fma(float(sum), scale, totals[i]), as `accumulate` does.
inline void accumulate_part(__m512i sum, float scale, float* totals) {
  const __m512 s = _mm512_set1_ps(scale);
  _mm512_storeu_ps(totals, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), s, _mm512_loadu_ps(totals)));
}

// vpdpbusd takes u8 x s8. Weights become u8 by adding 128 (flipping the sign bit); the start value takes
// 128 x the sum of the activations back off.
void q8_sums(const std::int8_t* weights, std::size_t groups, const std::int8_t* codes, std::int32_t chunk_sum,
             std::int32_t* sums) {
  const __m512i flip = _mm512_set1_epi8(-128);
  const __m512i start = _mm512_set1_epi32(-128 * chunk_sum);
  __m512i total[4] = {start, start, start, start};
  for (std::size_t quad = 0; quad < groups * 4; ++quad) {
    prefetch<256>(weights + quad * 256);
    const __m512i x = broadcast_quad(codes + quad * 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const __m512i w = _mm512_xor_si512(load512(weights + quad * 256 + i * 64), flip);
      total[i] = _mm512_dpbusd_epi32(total[i], w, x);
    }
  }
  for (std::size_t i = 0; i < 4; ++i) _mm512_store_si512(sums + i * 16, total[i]);
}

// Codes stand as code + 8, which is already u8; the start value takes 8 x the group's sum back off. A group
// is 16 inputs: two pairs of quads.
void q4_sums(const PanelView& panel, std::size_t first_group, std::size_t groups, const std::int8_t* codes,
             const std::int32_t* group_sums, std::size_t group_stride, std::int32_t* sums) {
  const __m512i mask = _mm512_set1_epi8(15);
  __m512i total[4] = {};
  const std::byte* packed = panel.codes + first_group * 512;
  for (std::size_t group = 0; group < groups; ++group) {
    prefetch<512>(packed + group * 512);
    const __m512i start = _mm512_set1_epi32(-8 * group_sums[group * group_stride]);
    __m512i sum[4] = {start, start, start, start};
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const std::int8_t* x = codes + group * 16 + pair * 8;
      const __m512i x_even = broadcast_quad(x);
      const __m512i x_odd = broadcast_quad(x + 4);
      for (std::size_t i = 0; i < 4; ++i) {
        const __m512i both = load512(packed + group * 512 + pair * 256 + i * 64);
        sum[i] = _mm512_dpbusd_epi32(sum[i], _mm512_and_si512(both, mask), x_even);
        sum[i] = _mm512_dpbusd_epi32(sum[i], _mm512_and_si512(_mm512_srli_epi16(both, 4), mask), x_odd);
      }
    }
    const SubScales scales = load_sub_scales(panel, first_group + group);
    for (std::size_t i = 0; i < 4; ++i)
      total[i] = _mm512_add_epi32(total[i], _mm512_mullo_epi32(sum[i], scales.part[i]));
  }
  for (std::size_t i = 0; i < 4; ++i) _mm512_store_si512(sums + i * 16, total[i]);
}

// Every weight of a chunk as u8: 128 is added by flipping the sign bit, since vpdpbusd takes u8 x s8. The
// sums start with -128 x the sum of the row's activations, which takes that off again.
struct ByteChunk {
  static constexpr int kRows = 6;  // 24 sums, 4 weights: of 32 registers

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    __m512i total[kCount][4];
    for (int r = 0; r < kCount; ++r)
      for (auto& t : total[r]) t = _mm512_set1_epi32(-128 * rows.chunk_sums[r]);
    for (std::size_t quad = 0; quad < quads; ++quad) {
      __m512i w[4];
      for (std::size_t i = 0; i < 4; ++i) w[i] = load512(weights + quad * 256 + i * 64);
      for (int r = 0; r < kCount; ++r) {
        const __m512i x = broadcast_quad(rows.codes + static_cast<std::size_t>(r) * rows.cols + quad * 4);
        for (std::size_t i = 0; i < 4; ++i) total[r][i] = _mm512_dpbusd_epi32(total[r][i], w[i], x);
      }
    }
    for (int r = 0; r < kCount; ++r)
      for (std::size_t i = 0; i < 4; ++i)
        accumulate_part(total[r][i], rows.scales[r], out + static_cast<std::size_t>(r) * out_stride + i * 16);
  }

  std::size_t quads;
  alignas(64) std::uint8_t weights[kChunkColsMax * 64];
};

struct Q8Chunk : ByteChunk {
  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    quads = groups * 4;
    const std::byte* codes = panel.codes + first_group * 1024;
    const __m512i flip = _mm512_set1_epi8(-128);
    for (std::size_t i = 0; i < groups * 1024; i += 64)
      _mm512_store_si512(weights + i, _mm512_xor_si512(load512(codes + i), flip));
  }
};

struct Q4Chunk : ByteChunk {
  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    quads = groups * 4;
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i flip = _mm512_set1_epi8(-128);
    for (std::size_t group = 0; group < groups; ++group) {
      const SubScales scales = load_sub_scales(panel, first_group + group);
      const std::byte* packed = panel.codes + (first_group + group) * 512;
      for (std::size_t i = 0; i < 4; ++i) {
        const __m512i scale =
            _mm512_mask_blend_epi16(0xAAAAAAAAu, scales.part[i], _mm512_slli_epi32(scales.part[i], 16));
        for (std::size_t half = 0; half < 2; ++half) {
          const __m512i both = load512(packed + half * 256 + i * 64);
          const __m512i even = scale_codes(_mm512_and_si512(both, mask), scale);
          const __m512i odd = scale_codes(_mm512_and_si512(_mm512_srli_epi16(both, 4), mask), scale);
          std::uint8_t* out = weights + group * 1024 + half * 512 + i * 64;
          _mm512_store_si512(out, _mm512_xor_si512(even, flip));
          _mm512_store_si512(out + 256, _mm512_xor_si512(odd, flip));
        }
      }
    }
  }
};

std::uint64_t peak_q8(std::size_t rounds) {
  __m512i total[24] = {};
  __m512i w = _mm512_set1_epi8(3);
  const __m512i x = _mm512_set1_epi8(5);
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (auto& t : total) {
      t = _mm512_dpbusd_epi32(t, w, x);
      asm volatile("" : "+v"(t));  // or the rounds would be left out
    }
  }
  return rounds * 24 * 64 * 2;
}

std::uint64_t peak_q4(std::size_t rounds) { return peak_q8(rounds); }

constexpr std::size_t kManyRowsQ8 = 4;
constexpr std::size_t kManyRowsQ4 = 4;

#include "runtime/kernels/integer_products.h"

}  // namespace

const Kernels& avx512_kernels() { return kTable; }

}  // namespace sluice::runtime
