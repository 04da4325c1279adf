// The kernels for AVX2 with VNNI but without AVX-512 (Alder Lake and later cores of Intel for desktops). A
// few rows of q8, q6 and q4 use the kernels of AVX2; mx4 and blocks for many rows use vpdpbusd, which adds
// four u8 x s8 products to an s32 without saturation.

#include <immintrin.h>

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "avxvnni";

#include "runtime/kernels/simd-inl.h"

#include "runtime/kernels/float_kernels-inl.h"
#include "runtime/kernels/latent_kernels-inl.h"
#include "runtime/kernels/prefetch.h"
#include "runtime/kernels/recurrent_kernels-inl.h"

#include "runtime/kernels/integers_256-inl.h"

#include "runtime/kernels/mx4_256-inl.h"

// All weights of a block as u8: 128 is added by flipping the sign bit, since vpdpbusd multiplies u8 x s8.
// Sums start with -128 x the sum of the row's activations, which subtracts that again.
struct ByteBlock {
  static constexpr std::size_t kCols = 128;  // 8 KiB of weights, in the L1 cache
  static_assert(kCols >= kChunkColsMax);
  static constexpr int kRows = 6;

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    for (std::size_t n = 0; n < 64; n += 16)
      multiply_pair<kCount, false>(rows, n, nullptr, out + n, out_stride);
  }

  alignas(32) std::uint8_t weights[kCols * 64];

 protected:
  // Sixteen outputs from `n` on, so that the sums of six rows stay in registers: 12 of 16, and 3 for weights
  // and activations. Not inlined, since GCC would keep some in memory within the surrounding loops.
  // With kFloats, sums are the low bits of floats, which start with `zeros`, [chunk][64]
  // (mx4_products-inl.h).
  template <int kCount, bool kFloats>
  [[gnu::noinline]] void multiply_pair(const ChunkRows& rows, std::size_t n, const float* zeros, float* out,
                                       std::size_t out_stride) const {
    const std::uint8_t* w = weights + n * 4;
    const std::int8_t* x = rows.codes;
    for (std::size_t chunk = 0; chunk < rows.chunks; ++chunk) {
      __m256i sum[kCount][2];
      for (std::size_t r = 0; r < kCount; ++r)
        for (std::size_t i = 0; i < 2; ++i) {
          sum[r][i] = _mm256_set1_epi32(-128 * rows.chunk_sums[chunk * rows.chunk_rows + r]);
          if constexpr (kFloats) sum[r][i] = _mm256_add_epi32(sum[r][i], load256(zeros + chunk * 64 + i * 8));
        }
      std::size_t col = 0;
      do {
        __m256i part[2] = {load256(w), load256(w + 32)};
        for (auto& p : part) pin_to_register(p);
        for (std::size_t r = 0; r < kCount; ++r) {
          const __m256i four = broadcast_quad(x + r * rows.cols + col);
          for (std::size_t i = 0; i < 2; ++i) {
            sum[r][i] = _mm256_dpbusd_avx_epi32(sum[r][i], part[i], four);
            pin_to_register(sum[r][i]);
          }
        }
        w += kQuadBytes;
        col += 4;
      } while (col < rows.cols);
      for (std::size_t r = 0; r < kCount; ++r)
        for (std::size_t i = 0; i < 2; ++i) {
          const float scale = rows.scales[chunk * rows.chunk_rows + r];
          float* const totals = out + r * out_stride + i * 8;
          if constexpr (kFloats)
            accumulate_part(sum[r][i], zeros + chunk * 64 + i * 8, scale, totals);
          else
            accumulate_part(sum[r][i], scale, totals);
        }
      x += rows.chunk_rows * rows.cols;
    }
  }
};

struct Q8Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ8GroupBytes;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    const std::byte* codes = panel.codes + first_group * kQ8GroupBytes;
    const __m256i flip = _mm256_set1_epi8(-128);
    for (std::size_t i = 0; i < groups * kQ8GroupBytes; i += 32)
      store256(weights + i, _mm256_xor_si256(load256(codes + i), flip));
  }
};

struct Q6Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ6GroupBytes;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    unpack_q6(panel, first_group, groups, -128, weights);
  }
};

struct Q4Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ4GroupBytes;

  void load(const PanelView& panel, std::size_t first_group, std::size_t groups) {
    unpack_q4(panel, first_group, groups, -128, weights);
  }
};

// Codes of mx4 times two to the power of at most 3, by which a block's exponent is above the least one of its
// chunk: weights of at most 12 x 8, and sums of at most 96 x 127 x 128, which is below 2^22.
struct Mx4Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ4GroupBytes;
  static constexpr std::size_t kManyRows = 7;

  [[nodiscard]] bool load(const PanelView& panel, std::size_t first_block, std::size_t blocks,
                          std::size_t chunks) {
    for (std::size_t chunk = 0; chunk < chunks; ++chunk, first_block += blocks) {
      Mx4Folding folding;
      if (!folding.fold(panel, first_block, blocks, 3)) return false;
      for (std::size_t n = 0; n < 64; n += 8)
        store256(&zeros[chunk * 64 + n], float_zeros(widen_bytes(folding.least + n)));
      for (std::size_t block = 0; block < blocks; ++block)
        unpack(panel.codes + (first_block + block) * kMx4BlockBytes, folding.shifts[block],
               weights + (chunk * blocks + block) * 2 * kQ8GroupBytes);
    }
    return true;
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    for (std::size_t n = 0; n < 64; n += 16)
      multiply_pair<kCount, true>(rows, n, zeros + n, out + n, out_stride);
  }

 private:
  // (code + 12) << shift is at most 192, so that no bit leaves its byte.
  static void unpack(const std::byte* packed, const std::uint8_t* shifts, std::uint8_t* out) {
    const __m256i table = doubled_codes(12);
    for (std::size_t i = 0; i < 8; ++i) {
      const __m256i shift = widen_bytes(shifts + i * 8);
      const __m256i offset =
          _mm256_sub_epi8(_mm256_set1_epi8(-128), _mm256_sllv_epi32(_mm256_set1_epi8(12), shift));
      for (std::size_t pair = 0; pair < 4; ++pair) {
        const Nibbles code = load_mx4(packed + pair * kQ4PairBytes + i * 32, table);
        std::uint8_t* to = out + pair * 2 * kQuadBytes + i * 32;
        store256(to, _mm256_add_epi8(_mm256_sllv_epi32(code.even, shift), offset));
        store256(to + kQuadBytes, _mm256_add_epi8(_mm256_sllv_epi32(code.odd, shift), offset));
      }
    }
  }

  alignas(32) float zeros[kCols / kChunkColsMin * 64];  // [chunk][64]
};

std::uint64_t peak_q8(std::size_t rounds) {
  __m256i total[12] = {};
  __m256i w = _mm256_set1_epi8(3);
  const __m256i x = _mm256_set1_epi8(5);
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& t : total) {
      t = _mm256_dpbusd_avx_epi32(t, w, x);
      pin_to_register(t);  // otherwise the compiler leaves the rounds out
    }
  }
  return rounds * 12 * 32 * 2;
}

// Blocks of q4 are unpacked to bytes, so the innermost loop is the same.
std::uint64_t peak_q4(std::size_t rounds) { return peak_q8(rounds); }

// q8 and q6 have the numbers of AVX-512; others were not tried. q4: see avx2.cpp.
constexpr std::size_t kManyRowsQ8 = 4;
constexpr std::size_t kManyRowsQ6 = 4;
constexpr std::size_t kManyRowsQ4 = 7;

#include "runtime/kernels/bf16_products-inl.h"
#include "runtime/kernels/integer_products-inl.h"

}  // namespace

const Kernels& avxvnni_kernels() { return kTable; }

}  // namespace sluice::runtime
