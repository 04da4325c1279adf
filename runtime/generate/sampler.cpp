// Sampling. Everything is computed in double and by our own exponential, in one order: the same logits and
// seed give the same token on every machine, which std::exp and the distributions of <random> would not
// (their algorithms are up to the library).

#include "runtime/generate/sampler.h"

#include <algorithm>

#include "runtime/kernels/fixed_math.h"

namespace sluice::runtime {

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

bool Sampler::penalizes() const {
  return options_.repeat_last_n != 0 &&
         (options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0);
}

void Sampler::accept(TokenId token) {
  if (!penalizes()) return;
  const auto id = static_cast<std::size_t>(token);
  if (counts_.size() <= id) counts_.resize(id + 1);
  ++counts_[id];
  recent_.push_back(token);
  // The window is a queue with a count of each token in it, so that sample() does not search it.
  if (options_.repeat_last_n > 0 && recent_.size() > static_cast<std::size_t>(options_.repeat_last_n)) {
    --counts_[static_cast<std::size_t>(recent_.front())];
    recent_.pop_front();
  }
}

double Sampler::penalized(float logit, std::uint32_t count) const {
  double value = logit;
  if (count == 0) return value;
  // The repetition penalty of CTRL (arXiv 1909.05858), in the form for logits of both signs: dividing a
  // negative one would raise it.
  value = value > 0 ? value / options_.repeat_penalty : value * options_.repeat_penalty;
  return value - options_.presence_penalty - options_.frequency_penalty * count;
}

TokenId Sampler::sample(std::span<const float> logits) {
  logits_.assign(logits.begin(), logits.end());
  for (std::size_t id = 0; id < std::min(counts_.size(), logits.size()); ++id)
    logits_[id] = penalized(logits[id], counts_[id]);
  const auto largest = std::ranges::max_element(logits_);  // the lowest id among equals
  if (options_.temperature <= 0) return static_cast<TokenId>(largest - logits_.begin());

  candidates_.clear();
  double total = 0;
  for (std::size_t id = 0; id < logits_.size(); ++id) {
    // Not divided by the total: top_p and the draw below compare with multiples of it instead.
    const double probability = exponential((logits_[id] - *largest) / options_.temperature);
    candidates_.push_back({probability, static_cast<TokenId>(id)});
    total += probability;
  }
  // A heap yields only as many of the most likely tokens as are needed; sorting a whole vocabulary takes
  // milliseconds. Among equals the lower id comes first, so that the order is the same on every machine.
  const auto after = [](const Candidate& a, const Candidate& b) {
    return a.probability < b.probability || (a.probability == b.probability && a.id > b.id);
  };
  std::ranges::make_heap(candidates_, after);
  auto heap_end = candidates_.end();
  const auto take = [&]() -> const Candidate& {
    std::pop_heap(candidates_.begin(), heap_end, after);
    return *--heap_end;
  };
  if (options_.top_k > 0 && options_.top_k < candidates_.size()) {
    total = 0;
    for (std::uint64_t i = 0; i < options_.top_k; ++i) total += take().probability;
    // pop_heap() has moved the k best to the end; the others go, and the k become the new heap.
    candidates_.erase(candidates_.begin(), heap_end);
    std::ranges::make_heap(candidates_, after);
    heap_end = candidates_.end();
  }

  // Nucleus sampling (top-p, arXiv 1904.09751) and min-p: takes the fewest tokens whose share reaches top_p,
  // at least one, and none below min_p times the best one's probability. They gather at the end, the best
  // last.
  double share = 0;
  const double floor = options_.min_p * candidates_.front().probability;
  while (heap_end != candidates_.begin()) {
    const bool any = heap_end != candidates_.end();
    if (any && (share >= options_.top_p * total || candidates_.front().probability < floor)) break;
    share += take().probability;
  }

  // 53 random bits give each multiple of 2^-53 in [0, 1) with the same probability.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * share;
  for (auto candidate = candidates_.end() - 1; candidate != heap_end; --candidate) {
    left -= candidate->probability;
    if (left < 0) return candidate->id;
  }
  // Rounding may leave a little of the share; it belongs to the least likely token that was taken.
  return heap_end->id;
}

}  // namespace sluice::runtime
