// The router of a mixture: gate logits, the k largest of them, and their weights, a softmax over the chosen
// logits (arXiv 2401.04088 section 2.1, and mistral-inference moe.py). Then the rows sorted by expert.
//
// The router is computed in f32 from rows that are not quantized: an error here may send a token to another
// expert, and such tokens make up most of what quantization costs (docs/decisions/0002-activation-chunks.md).

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {
namespace {

/// Indices of the k largest of `logits`, largest first; among equal ones the lower index comes first. k
/// passes, because k is small and std::partial_sort leaves the order of equal elements open. Logits must be
/// finite: a NaN compares false with everything.
void top_k(std::span<const float> logits, std::span<std::uint32_t> chosen) {
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    std::size_t best = logits.size();
    for (std::size_t e = 0; e < logits.size(); ++e) {
      if (std::ranges::find(chosen.first(i), static_cast<std::uint32_t>(e)) != chosen.begin() + i) continue;
      if (best == logits.size() || logits[e] > logits[best]) best = e;
    }
    chosen[i] = static_cast<std::uint32_t>(best);
  }
}

/// How far the last chosen logit is above the largest that was not chosen.
float margin_of(std::span<const float> logits, std::span<const std::uint32_t> chosen) {
  float next = -std::numeric_limits<float>::infinity();
  for (std::size_t e = 0; e < logits.size(); ++e)
    if (std::ranges::find(chosen, static_cast<std::uint32_t>(e)) == chosen.end())
      next = std::max(next, logits[e]);
  return logits[chosen.back()] - next;
}

}  // namespace

void Engine::Impl::route(const LayerWeights& w, std::size_t layer) {
  const std::size_t top = shape.experts_per_token;
  routing.experts.assign(rows.size() * top, 0);
  routing.weights.assign(rows.size() * top, 1.0f);
  // A margin takes another pass over the logits, so it is computed only for somebody who listens.
  const bool margins_wanted = top < shape.experts && std::ranges::any_of(rows, [](const StepRow& row) {
                                return row.sequence->on_routing != nullptr;
                              });
  routing.margins.resize(margins_wanted ? rows.size() : 0);
  // A dense model is one expert with weight 1 for every row, as the vectors were filled above.
  if (shape.routed) {
    for_each_row([&](std::size_t r, unsigned worker) {
      const std::span gate(scratch[worker].router.data(), shape.experts);
      for (std::size_t e = 0; e < shape.experts; ++e) {
        gate[e] = kernels.dot(&activations.normed[r * padded.dim], &w.router[e * padded.dim], padded.dim);
        if (!std::isfinite(gate[e])) {
          throw base::Error(base::ErrorKind::malformed,
                            weights.model().container.path().string() + ": layer " + std::to_string(layer) +
                                ": the router gives a value that is not finite at position " +
                                std::to_string(rows[r].position));
        }
      }
      const std::span chosen(&routing.experts[r * top], top);
      top_k(gate, chosen);
      if (margins_wanted) routing.margins[r] = margin_of(gate, chosen);
      float* const scores = scratch[worker].chosen.data();
      for (std::size_t i = 0; i < top; ++i) scores[i] = gate[chosen[i]];
      // chosen[0] has the largest logit, so no exponential overflows.
      const float sum = kernels.exp_sum(scores, top, gate[chosen[0]]);
      for (std::size_t i = 0; i < top; ++i) routing.weights[r * top + i] = scores[i] / sum;
    });
  }
  sort_assignments();
  report_routing(layer);
}

// A counting sort, which is stable: an expert's rows stay in their order. While assignments are filled in,
// first_assignment[e] moves from the begin of expert e to its end, which is the begin of the next one; the
// shift afterwards puts the begins back.
void Engine::Impl::sort_assignments() {
  const std::size_t top = shape.experts_per_token;
  auto& first = routing.first_assignment;
  std::ranges::fill(first, 0);
  for (const std::uint32_t e : routing.experts) ++first[e + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  routing.assignments.resize(rows.size() * top);
  for (std::uint32_t r = 0; r < rows.size(); ++r)
    for (std::size_t i = 0; i < top; ++i)
      routing.assignments[first[routing.experts[r * top + i]]++] = {r, routing.weights[r * top + i]};
  std::shift_right(first.begin(), first.end(), 1);
  first.front() = 0;
  routing.used.clear();
  for (std::uint32_t e = 0; e < shape.experts; ++e)
    if (first[e + 1] > first[e]) routing.used.push_back(e);
}

void Engine::Impl::report_routing(std::size_t layer) {
  if (!shape.routed) return;
  const std::size_t top = shape.experts_per_token;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    // On the thread that called step(), after the parallel part: listeners need no lock, and events come in
    // order.
    if (!rows[r].sequence->on_routing) continue;
    rows[r].sequence->on_routing(
        {.position = rows[r].position,
         .token = rows[r].token,
         .layer = layer,
         .experts = std::span(&routing.experts[r * top], top),
         .weights = std::span(&routing.weights[r * top], top),
         .margin = routing.margins.empty() ? std::nullopt : std::optional(routing.margins[r])});
  }
}

}  // namespace sluice::runtime
