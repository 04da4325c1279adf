#pragma once
// Chooses the next token from logits.

#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

#include "runtime/runtime.h"

namespace sluice::runtime {

/// In this order: penalties, temperature, top-k, top-p, min-p; what is left is renormalized and drawn from
/// with a 64-bit Mersenne Twister. Doubles, and an exponential of our own: the same logits, accepted tokens
/// and seed give the same tokens on every machine.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  /// Tells it of a token of the text so far, prompt and generated, for the penalties.
  void accept(TokenId token);
  [[nodiscard]] TokenId sample(std::span<const float> logits);

 private:
  struct Candidate {
    double probability;
    TokenId id;
  };

  [[nodiscard]] bool penalizes() const;
  /// A logit after the penalties for its token's `count` occurrences.
  [[nodiscard]] double penalized(float logit, std::uint32_t count) const;

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::deque<TokenId> recent_;         // the last repeat_last_n
  std::vector<std::uint32_t> counts_;  // [id] occurrences in recent_; as long as the largest id needs
  std::vector<double> logits_;
  std::vector<Candidate> candidates_;
};

}  // namespace sluice::runtime
