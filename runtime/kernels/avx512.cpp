// The kernels for AVX-512 with VNNI (Ice Lake, Zen 4 and later).
//
// vpdpbusd does all products: it adds four products u8 x s8 to an s32 lane, exactly. So one factor must be
// unsigned. Weights become u8 by an offset (128 for s8, 8 for q4 codes, 32 for q6 codes), and every sum
// starts with minus the offset times the sum of the activations, which quantize_chunk has computed. A
// register holds one quad of sixteen outputs.

#include <immintrin.h>

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "avx512";

#include "runtime/kernels/simd-inl.h"

#include "runtime/kernels/float_kernels-inl.h"
#include "runtime/kernels/latent_kernels-inl.h"
#include "runtime/kernels/prefetch.h"
#include "runtime/kernels/recurrent_kernels-inl.h"

inline __m512i load512(const void* p) { return _mm512_loadu_si512(p); }

// Four activations, the same for all sixteen outputs of a register.
inline __m512i broadcast_quad(const std::int8_t* p) {
  std::int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

// Sub-scales of one group for 64 outputs: magnitudes as s32, sixteen a register, and signs as bits, which is
// the form of a mask register.
struct Magnitudes {
  __m512i part[4];
  std::uint64_t signs;

  [[nodiscard]] __mmask16 negative(std::size_t i) const { return static_cast<__mmask16>(signs >> (16 * i)); }
  [[nodiscard]] __m512i with_sign(std::size_t i) const {
    return _mm512_mask_sub_epi32(part[i], negative(i), _mm512_setzero_si512(), part[i]);
  }
};

inline Magnitudes load_magnitudes(const PanelView& panel, std::size_t group) {
  const __m256i packed =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel.magnitudes + group * kQ4MagnitudeBytes));
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i halves[2] = {_mm256_and_si256(packed, mask),
                             _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask)};
  Magnitudes magnitudes;
  __builtin_memcpy(&magnitudes.signs, panel.signs + group * kQ4SignBytes, sizeof(magnitudes.signs));
  for (std::size_t i = 0; i < 4; ++i) {
    const __m128i bytes =
        i % 2 == 0 ? _mm256_castsi256_si128(halves[i / 2]) : _mm256_extracti128_si256(halves[i / 2], 1);
    magnitudes.part[i] = _mm512_add_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(1));
  }
  return magnitudes;
}

inline Sums to_sums(const __m512i (&total)[4]) {
  Sums sums;
  for (std::size_t i = 0; i < 4; ++i) sums.part[i] = reinterpret_cast<IntPart>(total[i]);
  return sums;
}

// vpdpbusd multiplies u8 x s8. Weights become u8 by adding 128 (flipping the sign bit); the start value
// subtracts 128 x the sum of the activations again.
inline Sums q8_sums(const std::int8_t* weights, std::size_t groups, const std::int8_t* codes,
                    std::int32_t chunk_sum) {
  const __m512i flip = _mm512_set1_epi8(-128);
  const __m512i start = _mm512_set1_epi32(-128 * chunk_sum);
  __m512i total[4] = {start, start, start, start};
  for (std::size_t quad = 0; quad < groups * 4; ++quad) {
    prefetch<kQuadBytes>(weights + quad * kQuadBytes);
    const __m512i x = broadcast_quad(codes + quad * 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const __m512i w = _mm512_xor_si512(load512(weights + quad * kQuadBytes + i * 64), flip);
      total[i] = _mm512_dpbusd_epi32(total[i], w, x);
    }
  }
  return to_sums(total);
}

// Codes of two quads of inputs of sixteen outputs as u8: in q4 with 8 added, in q6 with 32.
struct Quads {
  __m512i even;
  __m512i odd;
};

inline Quads load_nibbles(const std::byte* pair, std::size_t i) {
  const __m512i mask = _mm512_set1_epi8(15);
  const __m512i both = load512(pair + i * 64);
  return {_mm512_and_si512(both, mask), _mm512_and_si512(_mm512_srli_epi16(both, 4), mask)};
}

// The two halves of a register have their high bits in the same 32 bytes, four bits apart.
inline Quads load_six_bits(const std::byte* pair, std::size_t i) {
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i high = _mm512_set1_epi8(0x30);
  const __m512i both = load512(pair + i * 64);
  const __m512i packed = _mm512_srlv_epi16(
      _mm512_broadcast_i64x4(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pair + kQ6LowBytes + i * 32))),
      _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1));
  // 0xCA of (a, b, c): b where a is set, else c
  return {_mm512_ternarylogic_epi32(low, both, _mm512_and_si512(_mm512_slli_epi16(packed, 4), high), 0xCA),
          _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(both, 4),
                                    _mm512_and_si512(_mm512_slli_epi16(packed, 2), high), 0xCA)};
}

// Sub-scales of one group of q6 for sixteen outputs, as s32.
inline __m512i load_q6_magnitudes(const PanelView& panel, std::size_t group, std::size_t i) {
  const auto* packed = reinterpret_cast<const __m128i*>(panel.magnitudes + group * kQ6MagnitudeBytes);
  const __m512i shifted = _mm512_srlv_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(packed)),
                                            _mm512_set1_epi32(static_cast<int>(2 * i)));
  return _mm512_add_epi32(_mm512_and_si512(shifted, _mm512_set1_epi32(3)), _mm512_set1_epi32(1));
}

// Adds the products of one group, 16 inputs in two pairs of quads. All four quads share a sub-scale, so one
// multiplication after them is enough.
template <std::size_t kPairBytes, typename Load>
inline void add_group(const std::byte* packed, const std::int8_t* x, Load load, __m512i (&sum)[4]) {
  for (std::size_t pair = 0; pair < 2; ++pair) {
    const __m512i x_even = broadcast_quad(x + pair * 8);
    const __m512i x_odd = broadcast_quad(x + pair * 8 + 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const Quads code = load(packed + pair * kPairBytes, i);
      sum[i] = _mm512_dpbusd_epi32(sum[i], code.even, x_even);
      sum[i] = _mm512_dpbusd_epi32(sum[i], code.odd, x_odd);
    }
  }
}

// Codes are stored as code + 8, so the start value subtracts 8 x the group's sum of activations.
inline Sums q4_sums(const PanelView& panel, std::size_t first_group, std::size_t groups,
                    const std::int8_t* codes, const std::int32_t* group_sums, std::size_t group_stride) {
  __m512i total[4] = {};
  const std::byte* packed = panel.codes + first_group * kQ4GroupBytes;
  for (std::size_t group = 0; group < groups; ++group) {
    prefetch<kQ4GroupBytes>(packed + group * kQ4GroupBytes);
    const __m512i start = _mm512_set1_epi32(-8 * group_sums[group * group_stride]);
    __m512i sum[4] = {start, start, start, start};
    add_group<kQ4PairBytes>(packed + group * kQ4GroupBytes, codes + group * 16, load_nibbles, sum);
    const Magnitudes magnitudes = load_magnitudes(panel, first_group + group);
    for (std::size_t i = 0; i < 4; ++i)
      total[i] = _mm512_add_epi32(total[i], _mm512_mullo_epi32(sum[i], magnitudes.with_sign(i)));
  }
  return to_sums(total);
}

#include "runtime/kernels/q4_rows-inl.h"

// Like q4_sums, but codes are stored as code + 32.
inline Sums q6_sums(const PanelView& panel, std::size_t first_group, std::size_t groups,
                    const std::int8_t* codes, const std::int32_t* group_sums, std::size_t group_stride) {
  __m512i total[4] = {};
  const std::byte* packed = panel.codes + first_group * kQ6GroupBytes;
  for (std::size_t group = 0; group < groups; ++group) {
    prefetch<kQ6GroupBytes>(packed + group * kQ6GroupBytes);
    const __m512i start = _mm512_set1_epi32(-32 * group_sums[group * group_stride]);
    __m512i sum[4] = {start, start, start, start};
    add_group<kQ6PairBytes>(packed + group * kQ6GroupBytes, codes + group * 16, load_six_bits, sum);
    for (std::size_t i = 0; i < 4; ++i)
      total[i] = _mm512_add_epi32(
          total[i], _mm512_mullo_epi32(sum[i], load_q6_magnitudes(panel, first_group + group, i)));
  }
  return to_sums(total);
}

// All weights of a block as u8: 128 is added by flipping the sign bit, since vpdpbusd multiplies u8 x s8.
// Sums start with -128 x the sum of the row's activations, which subtracts that again. Integers and floats of
// three rows stay in registers over all the chunks: 12 + 12 of 32, and 4 for weights.
struct ByteBlock {
  static constexpr std::size_t kCols = 256;  // 16 KiB of weights, in the L1 cache
  static_assert(kCols >= kChunkColsMax);
  static constexpr int kRows = 3;

  // Not inlined, since GCC would keep some sums in memory within the surrounding loops.
  //
  // With kFloats, sums are the low bits of floats, which start with `zeros`, [chunk][64]
  // (mx4_products-inl.h).
  template <int kCount, bool kFloats>
  [[gnu::noinline]] void multiply_bytes(const ChunkRows& rows, const float* zeros, float* out,
                                        std::size_t out_stride) const {
    __m512 total[kCount][4];
    for (std::size_t r = 0; r < kCount; ++r)
      for (std::size_t i = 0; i < 4; ++i) total[r][i] = _mm512_loadu_ps(out + r * out_stride + i * 16);
    const std::uint8_t* w = weights;
    const std::int8_t* x = rows.codes;
    for (std::size_t chunk = 0; chunk < rows.chunks; ++chunk) {
      __m512i sum[kCount][4];
      for (std::size_t r = 0; r < kCount; ++r) {
        const std::int32_t start = -128 * rows.chunk_sums[chunk * rows.chunk_rows + r];
        for (auto& s : sum[r]) s = _mm512_set1_epi32(start);
        for (std::size_t i = 0; kFloats && i < 4; ++i)
          sum[r][i] = _mm512_add_epi32(sum[r][i], load512(zeros + i * 16));
      }
      std::size_t col = 0;
      do {
        __m512i part[4] = {load512(w), load512(w + 64), load512(w + 128), load512(w + 192)};
        for (auto& p : part) pin_to_register(p);
        for (std::size_t r = 0; r < kCount; ++r) {
          const __m512i four = broadcast_quad(x + r * rows.cols + col);
          for (std::size_t i = 0; i < 4; ++i) {
            sum[r][i] = _mm512_dpbusd_epi32(sum[r][i], part[i], four);
            pin_to_register(sum[r][i]);
          }
        }
        w += 256;
        col += 4;
      } while (col < rows.cols);
      for (std::size_t r = 0; r < kCount; ++r) {
        const __m512 scale = _mm512_set1_ps(rows.scales[chunk * rows.chunk_rows + r]);
        for (std::size_t i = 0; i < 4; ++i) {
          const __m512 exact =
              kFloats ? _mm512_sub_ps(_mm512_castsi512_ps(sum[r][i]), _mm512_load_ps(zeros + i * 16))
                      : _mm512_cvtepi32_ps(sum[r][i]);
          total[r][i] = _mm512_fmadd_ps(exact, scale, total[r][i]);
          pin_to_register(total[r][i]);
        }
      }
      if constexpr (kFloats) zeros += 64;
      x += rows.chunk_rows * rows.cols;
    }
    for (std::size_t r = 0; r < kCount; ++r)
      for (std::size_t i = 0; i < 4; ++i) _mm512_storeu_ps(out + r * out_stride + i * 16, total[r][i]);
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    multiply_bytes<kCount, false>(rows, nullptr, out, out_stride);
  }

  alignas(64) std::uint8_t weights[kCols * 64];
};

struct Q8Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ8GroupBytes;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    const std::byte* codes = panel.codes + first_group * kQ8GroupBytes;
    const __m512i flip = _mm512_set1_epi8(-128);
    for (std::size_t i = 0; i < groups * kQ8GroupBytes; i += 64)
      _mm512_store_si512(weights + i, _mm512_xor_si512(load512(codes + i), flip));
  }
};

struct Q6Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ6GroupBytes;

  // Codes + 32 to 128 + sub-scale x code: the product is 252 at most, so one 16-bit product has two of them.
  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    for (std::size_t group = 0; group < groups; ++group) {
      const std::byte* packed = panel.codes + (first_group + group) * kQ6GroupBytes;
      for (std::size_t i = 0; i < 4; ++i) {
        const __m512i magnitude = load_q6_magnitudes(panel, first_group + group, i);
        const __m512i twice = _mm512_or_si512(magnitude, _mm512_slli_epi32(magnitude, 16));
        const __m512i bytes = _mm512_or_si512(twice, _mm512_slli_epi16(twice, 8));
        const __m512i offset = _mm512_sub_epi8(_mm512_set1_epi8(-128), _mm512_slli_epi16(bytes, 5));
        for (std::size_t pair = 0; pair < 2; ++pair) {
          const Quads code = load_six_bits(packed + pair * kQ6PairBytes, i);
          std::uint8_t* out = weights + group * kQ8GroupBytes + pair * 2 * kQuadBytes + i * 64;
          _mm512_store_si512(out, _mm512_add_epi8(_mm512_mullo_epi16(code.even, twice), offset));
          _mm512_store_si512(out + kQuadBytes, _mm512_add_epi8(_mm512_mullo_epi16(code.odd, twice), offset));
        }
      }
    }
  }
};

struct Q4Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ4GroupBytes;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    for (std::size_t group = 0; group < groups; ++group) {
      const Magnitudes magnitudes = load_magnitudes(panel, first_group + group);
      const std::byte* packed = panel.codes + (first_group + group) * kQ4GroupBytes;
      for (std::size_t i = 0; i < 4; ++i) {
        const Scaling scaling(magnitudes.part[i], magnitudes.negative(i));
        for (std::size_t half = 0; half < 2; ++half) {
          const Quads nibbles = load_nibbles(packed + half * kQ4PairBytes, i);
          std::uint8_t* out = weights + group * kQ8GroupBytes + half * 2 * kQuadBytes + i * 64;
          _mm512_store_si512(out, scaling.apply(nibbles.even));
          _mm512_store_si512(out + kQuadBytes, scaling.apply(nibbles.odd));
        }
      }
    }
  }

 private:
  // Nibbles to 128 + sub-scale x (nibble - 8), for sixteen outputs of four inputs each. A nibble times a
  // magnitude is 240 at most, so one 16-bit product has two of them, without a carry. With s = all bits set
  // where the sub-scale is negative, which makes a xor s = -a - 1 there:
  // 128 +- (product - 8 x magnitude) = (product xor s) + (8 x magnitude xor not s) + 129.
  class Scaling {
   public:
    Scaling(__m512i magnitude, __mmask16 negative)
        : twice_(_mm512_or_si512(magnitude, _mm512_slli_epi32(magnitude, 16))),
          flip_(_mm512_movm_epi32(negative)) {
      const __m512i eightfold = _mm512_slli_epi16(twice_, 3);
      const __m512i bytes = _mm512_or_si512(eightfold, _mm512_slli_epi16(eightfold, 8));
      // 0xC3 of (a, b): not (a xor b)
      offset_ = _mm512_add_epi8(_mm512_ternarylogic_epi32(bytes, flip_, flip_, 0xC3), _mm512_set1_epi8(-127));
    }

    [[nodiscard]] __m512i apply(__m512i nibbles) const {
      return _mm512_add_epi8(_mm512_xor_si512(_mm512_mullo_epi16(nibbles, twice_), flip_), offset_);
    }

   private:
    __m512i twice_;
    __m512i flip_;
    __m512i offset_;
  };
};

#include "runtime/kernels/mx4_512-inl.h"

// Unpacks through a block, and subtracts the 128 that a block adds for vpdpbusd.
template <typename Block>
inline void unpack_block(const PanelView& panel, std::size_t first_group, std::size_t groups,
                         std::int8_t* out) {
  Block block;
  block.load(panel, first_group, groups);
  const __m512i flip = _mm512_set1_epi8(-128);
  for (std::size_t i = 0; i < groups * kQ8GroupBytes; i += 64)
    _mm512_storeu_si512(out + i, _mm512_xor_si512(load512(block.weights + i), flip));
}

void unpack_q6_to_s8(const PanelView& panel, std::size_t first_group, std::size_t groups, std::int8_t* out) {
  unpack_block<Q6Block>(panel, first_group, groups, out);
}

void unpack_q4_to_s8(const PanelView& panel, std::size_t first_group, std::size_t groups, std::int8_t* out) {
  unpack_block<Q4Block>(panel, first_group, groups, out);
}

std::uint64_t peak_q8(std::size_t rounds) {
  __m512i total[24] = {};
  __m512i w = _mm512_set1_epi8(3);
  const __m512i x = _mm512_set1_epi8(5);
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (auto& t : total) {
      t = _mm512_dpbusd_epi32(t, w, x);
      pin_to_register(t);  // otherwise the compiler leaves the rounds out
    }
  }
  return rounds * 24 * 64 * 2;
}

// Blocks of q4 are unpacked to bytes, so the innermost loop is the same.
std::uint64_t peak_q4(std::size_t rounds) { return peak_q8(rounds); }

constexpr std::size_t kManyRowsQ8 = 4;
constexpr std::size_t kManyRowsQ6 = 4;
constexpr std::size_t kManyRowsQ4 = 4;

#include "runtime/kernels/bf16_products-inl.h"
#include "runtime/kernels/integer_products-inl.h"

}  // namespace

const Kernels& avx512_kernels() { return kTable; }

}  // namespace sluice::runtime
