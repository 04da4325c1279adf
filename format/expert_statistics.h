#pragma once
// What calibration learns about the inputs of experts: `runtime` collects it, `convert` weighs rounding
// errors with it, and the caller of both carries it from one to the other.
//
// The error of an output of W is d x with d = W - W', so its square over all tokens is d H d' with the second
// moments H = sum of x x'. Only products of inputs of the same block are kept: the whole H of Mixtral's w2
// would take 822 MB for each expert, blocks of 128 inputs take 7 MB.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::format {

constexpr std::size_t kMomentBlock = 128;  ///< inputs of a block; the last block may be narrower

/// Sums over tokens of (g x)(g x)', where g is the weight that the router gave the expert for the token.
struct InputMoments {
  std::size_t inputs = 0;
  std::vector<float> sums;  ///< block after block, each [row][col]

  InputMoments() = default;
  /// Moments that are all zero.
  explicit InputMoments(std::size_t inputs_in) : inputs(inputs_in), sums(sum_count(inputs_in)) {}

  [[nodiscard]] std::size_t blocks() const { return (inputs + kMomentBlock - 1) / kMomentBlock; }
  [[nodiscard]] std::size_t block_width(std::size_t block) const {
    const std::size_t rest = inputs - block * kMomentBlock;
    return rest < kMomentBlock ? rest : kMomentBlock;
  }
  [[nodiscard]] std::span<float> block(std::size_t index) {
    return std::span(sums).subspan(index * kMomentBlock * kMomentBlock,
                                   block_width(index) * block_width(index));
  }
  [[nodiscard]] std::span<const float> block(std::size_t index) const {
    return std::span(sums).subspan(index * kMomentBlock * kMomentBlock,
                                   block_width(index) * block_width(index));
  }

 private:
  static std::size_t sum_count(std::size_t inputs) {
    const std::size_t rest = inputs % kMomentBlock;
    return inputs / kMomentBlock * kMomentBlock * kMomentBlock + rest * rest;
  }
};

struct ExpertStatistics {
  std::uint64_t tokens = 0;  ///< number of tokens that were routed to the expert
  InputMoments up;           ///< inputs of w1 and w3 [dim]
  InputMoments down;         ///< inputs of w2 [hidden_dim]
};

struct LayerStatistics {
  std::uint64_t layer = 0;
  std::vector<ExpertStatistics> experts;
};

}  // namespace sluice::format
