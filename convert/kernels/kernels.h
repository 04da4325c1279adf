#pragma once
// The inner loops of quantization, for several instruction sets. All give the same bytes: the search works on
// 16-bit integers, and floats see the same IEEE operations in the same order everywhere.
//
// Terms: a *group* is the 16 inputs of a row that share a sub-scale; a *block* is 16 groups, which the search
// works on side by side, one group in each *lane* of a SIMD vector; a *quad* is 4 neighbouring inputs of a
// row, whose codes are stored together (format/tile.h).

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::convert {

constexpr std::size_t kBlockGroups = 16;     ///< groups of a block
constexpr std::size_t kBlockCols = 256;      ///< weights of a block
constexpr std::size_t kInterleaveRows = 16;  ///< rows that interleave() takes

/// Sums over a row: |decoded - weight|^2 and |weight|^2. In q4 the first comes from the search's fixed-point
/// numbers and is right to a thousandth of itself or a millionth of |weight|^2.
struct RowError {
  double squared_error = 0;
  double squared_weights = 0;
};

struct Kernels {
  std::string_view name;

  /// Converts `count` bf16 values to floats. False when one of them is NaN or infinity.
  bool (*widen_bf16)(const std::uint16_t* bits, std::size_t count, float* out);
  /// As widen_bf16, without the floats.
  bool (*finite_bf16)(const std::uint16_t* bits, std::size_t count);

  /// code = round(weight / scale) with scale = max |weight| / 127. Returns the row's scale, 0 for a row of
  /// zeros.
  float (*quantize_q8)(const float* row, std::size_t cols, std::int8_t* codes, RowError& error);

  /// Searches the scale, sub-scales and codes with the least squared error (q4_search-inl.h) for a row of
  /// `block_count` * kBlockCols weights. Every eight weights give a word: the codes + 8 of the first quad in
  /// the low nibbles of its bytes, those of the second in the high ones (format/tile.h). Each group gives a
  /// sub-scale. Returns the row's scale, 0 for a row of zeros.
  float (*quantize_q4)(const float* row, std::size_t block_count, std::uint32_t* words,
                       std::int8_t* sub_scales, RowError& error);

  /// Quantizes a row of `block_count` * kBlockCols weights: every weight gives a byte, its code + 32, and
  /// every group a sub-scale (format/tile.h). Returns the row's scale, 0 for a row of zeros.
  float (*quantize_q6)(const float* row, std::size_t block_count, std::uint8_t* codes,
                       std::int8_t* sub_scales, RowError& error);

  /// Writes the words of kInterleaveRows rows, which are `stride` words apart, to their places in a panel:
  /// word `step` of row `row` goes to out[step * 256 + row * 4].
  void (*interleave)(const std::uint32_t* words, std::size_t stride, std::size_t steps, std::byte* out);
};

[[nodiscard]] const Kernels& generic_kernels();
#if defined(__x86_64__)
[[nodiscard]] const Kernels& avx2_kernels();    ///< only where the CPU has AVX2
[[nodiscard]] const Kernels& avx512_kernels();  ///< only where the CPU has AVX-512 F, BW, DQ and VL
#endif

/// The fastest table that this CPU can execute.
[[nodiscard]] const Kernels& kernels();

}  // namespace sluice::convert
