// The kernels for AVX2 and FMA (Haswell, Zen and later), without VNNI.
//
// Without vpdpbusd, vpmaddubsw and vpmaddwd make a sum of four products in two steps. There are sixteen
// registers, so a block multiplies 16 of the 64 outputs with three or four rows at a time: two registers of
// sums a row, and the rest for weights, activations and constants. Decision 0011 has the measurements and
// what was rejected: 16-bit weights, and weights split into two halves of 4 bits.

#include <immintrin.h>

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "avx2";

#include "runtime/kernels/simd-inl.h"

#include "runtime/kernels/float_kernels-inl.h"
#include "runtime/kernels/latent_kernels-inl.h"
#include "runtime/kernels/prefetch.h"
#include "runtime/kernels/recurrent_kernels-inl.h"

#include "runtime/kernels/integers_256-inl.h"

#include "runtime/kernels/mx4_256-inl.h"

// One chunk of q8: codes in the order of the tiles, and their magnitudes, which are computed once for all
// rows.
struct Q8Block {
  static constexpr std::size_t kGroupBytes = kQ8GroupBytes;
  static constexpr std::size_t kCols = kChunkColsMin;
  static constexpr int kRows = 4;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    take(reinterpret_cast<const std::int8_t*>(panel.codes) + first_group * kQ8GroupBytes, groups);
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    for (std::size_t n = 0; n < 64; n += 16) multiply_pair<kCount>(rows, n, out + n, out_stride);
  }

 protected:
  void take(const std::int8_t* weights, std::size_t groups) {
    quads = groups * 4;
    codes = weights;
    for (std::size_t i = 0; i < groups * kQ8GroupBytes; i += 32)
      store256(magnitudes + i, _mm256_abs_epi8(load256(codes + i)));
  }

 private:
  // Sixteen outputs from `n` on, so that all sums stay in registers.
  template <std::size_t kCount>
  void multiply_pair(const ChunkRows& rows, std::size_t n, float* out, std::size_t out_stride) const {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i total[kCount][2] = {};
    for (std::size_t quad = 0; quad < quads; ++quad) {
      const std::size_t at = quad * kQuadBytes + n * 4;
      __m256i w[2] = {load256(codes + at), load256(codes + at + 32)};
      __m256i m[2] = {load256(magnitudes + at), load256(magnitudes + at + 32)};
      for (std::size_t i = 0; i < 2; ++i) pin_to_register(w[i]), pin_to_register(m[i]);
      for (std::size_t r = 0; r < kCount; ++r) {
        const __m256i x = broadcast_quad(rows.codes + r * rows.cols + quad * 4);
        for (std::size_t i = 0; i < 2; ++i) {
          const __m256i pairs = _mm256_maddubs_epi16(m[i], _mm256_sign_epi8(x, w[i]));
          total[r][i] = _mm256_add_epi32(total[r][i], _mm256_madd_epi16(pairs, ones));
          pin_to_register(total[r][i]);
        }
      }
    }
    for (std::size_t r = 0; r < kCount; ++r)
      for (std::size_t i = 0; i < 2; ++i)
        accumulate_part(total[r][i], rows.scales[r], out + r * out_stride + i * 8);
  }

  std::size_t quads;
  const std::int8_t* codes;
  alignas(32) std::int8_t magnitudes[kChunkColsMax * 64];
};

// One chunk of q6, unpacked to q8: -128 to 124.
struct Q6Block : Q8Block {
  static constexpr std::size_t kGroupBytes = kQ6GroupBytes;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    unpack_q6(panel, first_group, groups, 0, unpacked);
    take(unpacked, groups);
  }

 private:
  alignas(32) std::int8_t unpacked[kChunkColsMax * 64];
};

// One chunk of q4 or mx4: codes without their sub-scales, so that four quads of products can be added up in
// 16 bits before one multiplication scales them. That takes 9 instructions instead of 16 for int8 weights.
// Activations become u8 by adding 128; `start`, which is -128 x the sum of the chunk's weights, subtracts
// that again. It has no use for the sums of activations.
struct CodeBlock {
  static constexpr std::size_t kGroupBytes = kQ4GroupBytes;
  static constexpr std::size_t kCols = kChunkColsMin;
  static constexpr int kRows = 3;

 protected:
  // Takes the sub-scales of a group from scales_of(group), and the signed codes from codes_of(nibbles).
  template <typename ScalesOf, typename CodesOf>
  void load_codes(const std::byte* packed, std::size_t count, ScalesOf scales_of, CodesOf codes_of) {
    groups = count;
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sum[8];
    clear(sum);
    for (std::size_t group = 0; group < groups; ++group, packed += kQ4GroupBytes) {
      const SubScales sub_scales = scales_of(group);
      for (std::size_t i = 0; i < 8; ++i) {
        std::int8_t* out = codes + group * kQ8GroupBytes + i * 32;
        __m256i pairs = _mm256_setzero_si256();
        for (std::size_t half = 0; half < 2; ++half) {
          const Nibbles code = codes_of(load_nibbles(packed + half * kQ4PairBytes + i * 32));
          store256(out + half * 2 * kQuadBytes, code.even);
          store256(out + (half * 2 + 1) * kQuadBytes, code.odd);
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(ones, code.even));
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(ones, code.odd));
        }
        store256(scales + group * 128 + i * 16, sub_scales.part[i]);
        sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs, sub_scales.part[i]));
      }
    }
    for (std::size_t i = 0; i < 8; ++i)
      store256(start + i * 8, _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum[i], 7)));
  }

  // With kFloats, sums are the low bits of floats, which start with `zeros` (mx4_products-inl.h).
  template <int kCount, bool kFloats>
  void multiply_codes(const ChunkRows& rows, const float* zeros, float* out, std::size_t out_stride) const {
    alignas(32) std::int8_t biased[kCount * kChunkColsMax];
    const __m256i flip = _mm256_set1_epi8(-128);
    // The rows of a chunk are adjacent, so one loop converts all of them. Flipping the sign bit adds 128.
    for (std::size_t i = 0; i < kCount * rows.cols; i += 32)
      store256(biased + i, _mm256_xor_si256(load256(rows.codes + i), flip));
    for (std::size_t n = 0; n < 64; n += 16)
      multiply_pair<kCount, kFloats>(biased, rows.cols, n, zeros, rows.scales, out + n, out_stride);
  }

 private:
  template <std::size_t kCount, bool kFloats>
  void multiply_pair(const std::int8_t* x, std::size_t cols, std::size_t n, const float* zeros,
                     const float* row_scales, float* out, std::size_t out_stride) const {
    __m256i total[kCount][2];
    for (auto& t : total)
      for (std::size_t i = 0; i < 2; ++i) {
        t[i] = load256(start + n + i * 8);
        if constexpr (kFloats) t[i] = _mm256_add_epi32(t[i], load256(zeros + n + i * 8));
      }
    for (std::size_t group = 0; group < groups; ++group) {
      __m256i pairs[kCount][2];
#pragma GCC unroll 4
      for (std::size_t quad = 0; quad < 4; ++quad) {
        const std::int8_t* weights = codes + (group * 4 + quad) * kQuadBytes + n * 4;
        __m256i w[2] = {load256(weights), load256(weights + 32)};
        pin_to_register(w[0]), pin_to_register(w[1]);
        for (std::size_t r = 0; r < kCount; ++r) {
          const __m256i b = broadcast_quad(x + r * cols + group * 16 + quad * 4);
          for (std::size_t i = 0; i < 2; ++i) {
            // u8 up to 255 x s8 up to 8 in q4 and 12 in mx4: four quads are at most 2 x 255 x 12 x 4 =
            // 24480.
            const __m256i products = _mm256_maddubs_epi16(b, w[i]);
            pairs[r][i] = quad == 0 ? products : _mm256_add_epi16(pairs[r][i], products);
            pin_to_register(pairs[r][i]);
          }
        }
      }
      const std::int16_t* s = scales + group * 128 + n * 2;
      for (std::size_t r = 0; r < kCount; ++r)
        for (std::size_t i = 0; i < 2; ++i) {
          total[r][i] = _mm256_add_epi32(total[r][i], _mm256_madd_epi16(pairs[r][i], load256(s + i * 16)));
          pin_to_register(total[r][i]);
        }
    }
    for (std::size_t r = 0; r < kCount; ++r)
      for (std::size_t i = 0; i < 2; ++i)
        if constexpr (kFloats)
          accumulate_part(total[r][i], zeros + n + i * 8, row_scales[r], out + r * out_stride + i * 8);
        else
          accumulate_part(total[r][i], row_scales[r], out + r * out_stride + i * 8);
  }

  std::size_t groups;
  alignas(32) std::int8_t codes[kChunkColsMax * 64];          // as a q8 tile lies
  alignas(32) std::int16_t scales[kChunkColsMax / 16 * 128];  // [group][output][2]
  alignas(32) std::int32_t start[64];
};

struct Q4Block : CodeBlock {
  void load(const PanelView& panel, std::size_t first_group, std::size_t count) {
    const __m256i eight = _mm256_set1_epi8(8);
    load_codes(
        panel.codes + first_group * kQ4GroupBytes, count,
        [&](std::size_t group) { return load_sub_scales(panel, first_group + group); },
        [&](const Nibbles& nibbles) {
          return Nibbles{_mm256_sub_epi8(nibbles.even, eight), _mm256_sub_epi8(nibbles.odd, eight)};
        });
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    multiply_codes<kCount, false>(rows, nullptr, out, out_stride);
  }
};

// The power of two by which a block's exponent is above the least one of its chunk takes the place of a
// sub-scale. It is at most 16: a chunk's sum is then at most 12 x 127 x 128 x 16, which is below 2^22.
struct Mx4Block : CodeBlock {
  static constexpr std::size_t kManyRows = 7;

  [[nodiscard]] bool load(const PanelView& panel, std::size_t first_block, std::size_t blocks,
                          [[maybe_unused]] std::size_t chunks) {
    static_assert(kCols == kChunkColsMin);  // so there is one chunk
    Mx4Folding folding;
    if (!folding.fold(panel, first_block, blocks, 4)) return false;
    for (std::size_t n = 0; n < 64; n += 8) store256(zeros + n, float_zeros(widen_bytes(folding.least + n)));
    const __m256i table = doubled_codes(0);
    load_codes(
        panel.codes + first_block * kMx4BlockBytes, blocks * 2,
        [&](std::size_t group) {
          SubScales sub_scales;
          for (std::size_t i = 0; i < 8; ++i)
            sub_scales.part[i] = _mm256_sllv_epi32(_mm256_set1_epi32(0x00010001),
                                                   widen_bytes(folding.shifts[group / 2] + i * 8));
          return sub_scales;
        },
        [&](const Nibbles& nibbles) {
          return Nibbles{_mm256_shuffle_epi8(table, nibbles.even), _mm256_shuffle_epi8(table, nibbles.odd)};
        });
    return true;
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    multiply_codes<kCount, true>(rows, zeros, out, out_stride);
  }

 private:
  alignas(32) float zeros[64];
};

// The instruction mix of Q8Block. Eight independent sums hide the latency; pinning w and x makes the compiler
// repeat what does not change.
std::uint64_t peak_q8(std::size_t rounds) {
  __m256i total[8] = {};
  __m256i w = _mm256_set1_epi8(3);
  __m256i x = _mm256_set1_epi8(5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
    for (auto& t : total) {
      pin_to_register(x), pin_to_register(w);
      t = _mm256_add_epi32(t, _mm256_madd_epi16(_mm256_maddubs_epi16(w, _mm256_sign_epi8(x, w)), ones));
      pin_to_register(t);
    }
  }
  return rounds * 8 * 32 * 2;
}

// The instruction mix of Q4Block: four multiplications, three additions in 16 bits, one scaling.
std::uint64_t peak_q4(std::size_t rounds) {
  __m256i total[6] = {};
  __m256i w = _mm256_set1_epi8(3);
  __m256i x = _mm256_set1_epi8(5);
  const __m256i scale = _mm256_set1_epi16(1);
  for (std::size_t round = 0; round < rounds; ++round) {
    __m256i pairs[6];
#pragma GCC unroll 4
    for (std::size_t quad = 0; quad < 4; ++quad) {
#pragma GCC unroll 6
      for (auto& p : pairs) {
        pin_to_register(x);
        const __m256i products = _mm256_maddubs_epi16(x, w);
        p = quad == 0 ? products : _mm256_add_epi16(p, products);
        pin_to_register(p);
      }
    }
#pragma GCC unroll 6
    for (std::size_t i = 0; i < 6; ++i) {
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs[i], scale));
      pin_to_register(total[i]);
    }
  }
  return rounds * 6 * 4 * 32 * 2;
}

constexpr std::size_t kManyRowsQ8 = 4;
constexpr std::size_t kManyRowsQ6 = 3;
// Up to seven rows share what is unpacked in registers (q4_rows_sums); measured with batch_speed.
constexpr std::size_t kManyRowsQ4 = 7;

#include "runtime/kernels/bf16_products-inl.h"
#include "runtime/kernels/integer_products-inl.h"

}  // namespace

const Kernels& avx2_kernels() { return kTable; }

}  // namespace sluice::runtime
