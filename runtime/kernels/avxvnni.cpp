// The kernels for AVX2 with VNNI but without AVX-512 (Alder Lake and later cores of Intel for desktops).

#include <immintrin.h>

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "avxvnni";

#include "runtime/kernels/simd-inl.h"

#include "runtime/kernels/float_kernels-inl.h"
#include "runtime/kernels/prefetch.h"

#include "runtime/kernels/integers_256-inl.h"

// Every weight of a block as u8: 128 is added by flipping the sign bit, since vpdpbusd takes u8 x s8. The
// sums start with -128 x the sum of the row's activations, which takes that off again.
struct ByteBlock {
  static constexpr std::size_t kCols = 128;  // 8 KiB of weights, in the L1 cache
  static_assert(kCols >= kChunkColsMax);
  static constexpr int kRows = 6;

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    for (std::size_t n = 0; n < 64; n += 16) multiply_pair<kCount>(rows, n, out + n, out_stride);
  }

  alignas(32) std::uint8_t weights[kCols * 64];

 private:
  // Sixteen outputs from `n` on, so that the sums of six rows stay in registers: 12 of 16, and 3 for weights
  // and activations. Not inlined: among the loops around it, some would be kept in memory.
  template <int kCount>
  [[gnu::noinline]] void multiply_pair(const ChunkRows& rows, std::size_t n, float* out,
                                       std::size_t out_stride) const {
    const std::uint8_t* w = weights + n * 4;
    const std::int8_t* x = rows.codes;
    for (std::size_t chunk = 0; chunk < rows.chunks; ++chunk) {
      __m256i sum[kCount][2];
      for (std::size_t r = 0; r < kCount; ++r)
        for (auto& s : sum[r]) s = _mm256_set1_epi32(-128 * rows.chunk_sums[chunk * rows.chunk_rows + r]);
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
        for (std::size_t i = 0; i < 2; ++i)
          accumulate_part(sum[r][i], rows.scales[chunk * rows.chunk_rows + r], out + r * out_stride + i * 8);
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
    for (std::size_t group = 0; group < groups; ++group) {
      const SubScales scales = load_sub_scales(panel, first_group + group);
      const std::byte* packed = panel.codes + (first_group + group) * kQ4GroupBytes;
      for (std::size_t i = 0; i < 8; ++i) {
        const Scaling scaling(scales.part[i]);
        for (std::size_t half = 0; half < 2; ++half) {
          const Nibbles nibbles = load_nibbles(packed + half * kQ4PairBytes + i * 32);
          std::uint8_t* out = weights + group * kQ8GroupBytes + half * 2 * kQuadBytes + i * 32;
          store256(out, scaling.apply(nibbles.even));
          store256(out + kQuadBytes, scaling.apply(nibbles.odd));
        }
      }
    }
  }

 private:
  // Nibbles to 128 + sub-scale x (nibble - 8), for eight outputs of four inputs each; sub-scales are s16,
  // each twice side by side. A nibble times a magnitude is 240 at most, so one 16-bit product has two of
  // them, without a carry. With s = all bits set where the sub-scale is negative, (a xor s) - s is -a there;
  // that - s is in offset_.
  class Scaling {
   public:
    explicit Scaling(__m256i sub_scales)
        : magnitudes_(_mm256_abs_epi16(sub_scales)), negative_(_mm256_srai_epi16(sub_scales, 15)) {
      const __m256i offset = _mm256_sub_epi16(_mm256_set1_epi16(128), _mm256_slli_epi16(sub_scales, 3));
      const __m256i low = _mm256_and_si256(_mm256_sub_epi16(offset, negative_), _mm256_set1_epi16(255));
      offset_ = _mm256_or_si256(low, _mm256_slli_epi16(low, 8));
    }

    [[nodiscard]] __m256i apply(__m256i nibbles) const {
      return _mm256_add_epi8(_mm256_xor_si256(_mm256_mullo_epi16(nibbles, magnitudes_), negative_), offset_);
    }

   private:
    __m256i magnitudes_;
    __m256i negative_;
    __m256i offset_;
  };
};

std::uint64_t peak_q8(std::size_t rounds) {
  __m256i total[12] = {};
  __m256i w = _mm256_set1_epi8(3);
  const __m256i x = _mm256_set1_epi8(5);
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& t : total) {
      t = _mm256_dpbusd_avx_epi32(t, w, x);
      pin_to_register(t);  // or the rounds would be left out
    }
  }
  return rounds * 12 * 32 * 2;
}

std::uint64_t peak_q4(std::size_t rounds) { return peak_q8(rounds); }

// As on AVX-512; other numbers were not tried.
constexpr std::size_t kManyRowsQ8 = 4;
constexpr std::size_t kManyRowsQ6 = 4;
constexpr std::size_t kManyRowsQ4 = 4;

#include "runtime/kernels/bf16_products-inl.h"
#include "runtime/kernels/integer_products-inl.h"

}  // namespace

const Kernels& avxvnni_kernels() { return kTable; }

}  // namespace sluice::runtime
