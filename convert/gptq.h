#pragma once
// Error-compensating rounding (GPTQ, arXiv 2210.17323) for q4 rows: the error that rounding one weight leaves
// is compensated by the weights of its block that are not rounded yet, as far as their inputs are correlated.
//
// For the second moments H of a block's inputs and H^-1 = U' U with U upper triangular, rounding weight i
// costs e_i^2 with e_i = (w_i - q_i) / U_ii, after which w_j -= e_i U_ij for j > i; the sum of all e_i^2 is
// the error of the row's output over all tokens. H is damped by a hundredth of its mean diagonal.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/expert_statistics.h"

namespace sluice::convert {

/// The factors of one block of inputs (format::kMomentBlock, the last may be narrower).
struct GptqBlock {
  std::size_t width;
  std::vector<float> factor;         ///< U, [row][col]
  std::vector<float> inverse_pivot;  ///< 1 / U_ii
  std::vector<float> moments;        ///< H damped, its mean diagonal scaled to 1
};

/// Factors from the inputs of a matrix guide the rounding of its rows. They are immutable, so threads may
/// share them.
class GptqFactors {
 public:
  explicit GptqFactors(const format::InputMoments& moments);

  [[nodiscard]] std::size_t inputs() const { return inputs_; }
  [[nodiscard]] std::span<const GptqBlock> blocks() const { return blocks_; }

 private:
  std::size_t inputs_;
  std::vector<GptqBlock> blocks_;
};

/// A q4 row: weight = code * sub_scale * scale (format/tile.h).
struct Q4Row {
  float scale = 0;
  std::vector<std::int8_t> codes;       ///< in [-8, 7], one a weight
  std::vector<std::int8_t> sub_scales;  ///< in +-[1, 16], one a group of 16 inputs
};

/// Quantizes a row so that the error of its output is least, where Kernels::quantize_q4 makes the error of
/// its weights least. Sub-scales are chosen group after group, for the weights as compensated so far.
/// row.size() is factors.inputs(), a multiple of 16.
void quantize_row_q4(std::span<const float> row, const GptqFactors& factors, Q4Row& result);

}  // namespace sluice::convert
