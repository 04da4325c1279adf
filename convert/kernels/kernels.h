#pragma once
// The inner loops of quantizing, for several instruction sets. All give the same bytes: the search works on
// integers of 16 bits, and what floats there are see the same IEEE operations in the same order.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::convert {

constexpr std::size_t kBlockGroups = 16;  ///< groups that are searched side by side
constexpr std::size_t kBlockCols = 256;   ///< their weights
constexpr std::size_t kInterleaveRows = 16;

/// Sums of a row: |decoded - weight|^2 and |weight|^2. The first is, in q4, what the search made of it in its
/// fixed point: right to a thousandth of it or a millionth of |weight|^2.
struct RowError {
  double squared_error = 0;
  double squared_weights = 0;
};

struct Kernels {
  std::string_view name;

  /// `count` bf16 values as floats. False when one of them is NaN or infinity.
  bool (*widen_bf16)(const std::uint16_t* bits, std::size_t count, float* out);
  /// Only the answer.
  bool (*finite_bf16)(const std::uint16_t* bits, std::size_t count);

  /// Returns the row's scale; convert/quantize.h says how it is chosen.
  float (*quantize_q8)(const float* row, std::size_t cols, std::int8_t* codes, RowError& error);

  /// A row of `block_count` times kBlockCols weights. For every eight weights a word: the codes + 8 of the
  /// first four in the low nibbles of its bytes, those of the others in the high ones (format/tile.h). One
  /// sub-scale a group. Returns the row's scale, 0 for a row of zeros.
  float (*quantize_q4)(const float* row, std::size_t block_count, std::uint32_t* words,
                       std::int8_t* sub_scales, RowError& error);

  /// A row of `block_count` times kBlockCols weights: codes + 32, a byte each, and one sub-scale a group
  /// (format/tile.h). Returns the row's scale, 0 for a row of zeros.
  float (*quantize_q6)(const float* row, std::size_t block_count, std::uint8_t* codes,
                       std::int8_t* sub_scales, RowError& error);

  /// The words of sixteen rows, `stride` words apart, as they lie in a panel: out[step * 256 + row * 4].
  void (*interleave)(const std::uint32_t* words, std::size_t stride, std::size_t steps, std::byte* out);
};

[[nodiscard]] const Kernels& generic_kernels();
#if defined(__x86_64__)
[[nodiscard]] const Kernels& avx2_kernels();    ///< only where the CPU has AVX2
[[nodiscard]] const Kernels& avx512_kernels();  ///< only where the CPU has AVX-512 F, BW, DQ and VL
#endif

/// The fastest that this CPU can execute.
[[nodiscard]] const Kernels& kernels();

}  // namespace sluice::convert
