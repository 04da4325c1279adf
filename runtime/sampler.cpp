#include "runtime/sampler.h"

#include <algorithm>

#include "runtime/fixed_math.h"

namespace sluice::runtime {

TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

TokenId Sampler::sample(std::span<const float> logits) {
  if (options_.temperature <= 0) return argmax(logits);

  const auto largest = static_cast<double>(logits[static_cast<std::size_t>(argmax(logits))]);
  candidates_.clear();
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const double exponent = (static_cast<double>(logits[id]) - largest) / options_.temperature;
    candidates_.push_back({static_cast<TokenId>(id), exponential(exponent)});
  }
  std::ranges::stable_sort(candidates_, std::ranges::greater{}, &Candidate::probability);
  if (options_.top_k > 0 && options_.top_k < candidates_.size()) candidates_.resize(options_.top_k);

  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.probability;

  // The smallest set whose share reaches top_p, and at least one token.
  std::size_t kept = 0;
  double share = 0;
  const double floor = options_.min_p * candidates_.front().probability;
  for (const Candidate& candidate : candidates_) {
    if (kept > 0 && (share >= options_.top_p * total || candidate.probability < floor)) break;
    share += candidate.probability;
    ++kept;
  }

  // 53 random bits: every double in [0, 1) that is a multiple of 2^-53.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * share;
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    left -= candidates_[i].probability;
    if (left < 0) return candidates_[i].id;
  }
  return candidates_[kept - 1].id;
}

}  // namespace sluice::runtime
