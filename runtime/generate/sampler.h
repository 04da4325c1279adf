#pragma once
// Chooses the next token from the logits.

#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

#include "runtime/runtime.h"

namespace sluice::runtime {

/// Applies, in this order, penalties, temperature, top-k, top-p and min-p, and draws from the tokens that are
/// left, by their probabilities, with a 64-bit Mersenne Twister. It computes in double and with its own
/// exponential, so the same logits, accepted tokens and seed give the same tokens on every machine.
/// Used by one thread at a time.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  /// Records a token of the prompt or of the generated text, for the penalties. Call it for every token, in
  /// order.
  void accept(TokenId token);
  /// Draws a token from logits [vocab_size]. Does not accept() it.
  [[nodiscard]] TokenId sample(std::span<const float> logits);

 private:
  struct Candidate {
    double probability;
    TokenId id;
  };

  [[nodiscard]] bool penalizes() const;
  /// The logit of a token that occurs `count` times in recent_, after the penalties.
  [[nodiscard]] double penalized(float logit, std::uint32_t count) const;

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::deque<TokenId> recent_;         // the last repeat_last_n accepted tokens
  std::vector<std::uint32_t> counts_;  // [id] occurrences in recent_; up to the largest id accepted so far
  std::vector<double> logits_;         // [vocab_size], after the penalties
  std::vector<Candidate> candidates_;
};

}  // namespace sluice::runtime
