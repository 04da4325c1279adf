#pragma once
// What calibration learns about the inputs of experts: `runtime` collects it, `convert` weighs rounding
// errors with it, and cli carries it from the one to the other.
//
// The error of an output of W is d x with d = W - W', so over all tokens it is d H d' with the second moments
// H = sum of x x'. Only products of inputs of the same block are kept: a whole H of Mixtral's w2 would take
// 822 MB an expert, blocks of 128 take 7 MB.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::format {

constexpr std::size_t kMomentBlock = 128;  ///< inputs that share a block; the last may be narrower

/// Sums over tokens of (g x)(g x)', g being the weight with which the token's router chose the expert.
struct InputMoments {
  std::size_t inputs = 0;
  std::vector<float> sums;  ///< block after block, each [row][col]

  InputMoments() = default;
  /// All zero.
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
  std::uint64_t tokens = 0;  ///< that were routed to it
  InputMoments up;           ///< inputs of w1 and w3 [dim]
  InputMoments down;         ///< inputs of w2 [hidden_dim]
};

struct LayerStatistics {
  std::uint64_t layer = 0;
  std::vector<ExpertStatistics> experts;
};

}  // namespace sluice::format
