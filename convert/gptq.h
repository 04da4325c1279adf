#pragma once
// Error-compensating rounding (GPTQ, arXiv 2210.17323) for q4 rows: the error that rounding one weight leaves
// is made up for by the weights of its block that are not rounded yet, as far as their inputs move together.
//
// For the second moments H of a block's inputs and H^-1 = U' U with U upper triangular, rounding weight i
// costs e_i^2 with e_i = (w_i - q_i) / U_ii, after which w_j -= e_i U_ij for j > i; the sum of all e_i^2 is
// the error of the row's output over all tokens. H is damped by a hundredth of its mean diagonal.

#include <cstddef>
#include <span>
#include <vector>

#include "convert/quantize.h"
#include "format/expert_statistics.h"

namespace sluice::convert {

/// What the inputs of a matrix say about rounding its rows. Immutable, shared by threads.
class Compensation {
 public:
  explicit Compensation(const format::InputMoments& moments);

  struct Block {
    std::size_t width;
    std::vector<float> factor;         ///< U, [row][col]
    std::vector<float> inverse_pivot;  ///< 1 / U_ii
    std::vector<float> moments;        ///< H damped, its mean diagonal scaled to 1
  };
  [[nodiscard]] std::size_t inputs() const { return inputs_; }
  [[nodiscard]] std::span<const Block> blocks() const { return blocks_; }

 private:
  std::size_t inputs_;
  std::vector<Block> blocks_;
};

/// As quantize_row_q4(row, result), with the least error of the row's output instead of its weights.
/// Sub-scales are chosen group after group, for the weights as compensated so far. row.size() is
/// compensation.inputs().
void quantize_row_q4(std::span<const float> row, const Compensation& compensation, Q4Row& result);

}  // namespace sluice::convert
