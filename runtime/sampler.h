#pragma once
// Chooses the next token from logits.

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "runtime/runtime.h"

namespace sluice::runtime {

/// In this order: temperature, top-k, top-p, min-p; what is left is renormalized and drawn from with a 64-bit
/// Mersenne Twister. The same logits and seed give the same tokens on every machine.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  [[nodiscard]] TokenId sample(std::span<const float> logits);

 private:
  struct Candidate {
    TokenId id;
    double probability;
  };

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<Candidate> candidates_;
};

/// Index of the largest; of equal ones the lowest.
[[nodiscard]] TokenId argmax(std::span<const float> logits);

}  // namespace sluice::runtime
