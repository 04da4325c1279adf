// The router of a mixture: logits, the k best experts, and their weights. The plain form is a softmax over
// the k largest logits (arXiv 2401.04088 section 2.1); others score all experts first, by a softmax (arXiv
// 2409.02060) or a sigmoid (arXiv 2412.19437 section 2.1.2), choose by these scores plus a learned bias, or
// from the best groups of experts only. Then the rows are sorted by expert.
//
// The router is computed in f32 from rows that are not quantized: an error here may send a token to another
// expert, and such tokens make up most of what quantization costs (docs/decisions/0002-activation-chunks.md).

#include "runtime/forward/router.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "format/model_limits.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// The index of the largest; among equal ones the lower index. Values are no NaN: it compares false with
/// everything.
std::size_t largest(std::span<const float> values) {
  return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
}

/// The best value of a group, or the sum of its two best.
float group_score(std::span<const float> ranks, format::GroupScore score) {
  const std::size_t best = largest(ranks);
  if (score == format::GroupScore::best) return ranks[best];
  float second = kNothing;
  for (std::size_t e = 0; e < ranks.size(); ++e)
    if (e != best) second = std::max(second, ranks[e]);
  return ranks[best] + second;
}

/// Drops all experts but those of the best groups.
void keep_best_groups(const format::RouterGroups& groups, std::span<float> ranks) {
  // A description has at most so many experts, and a group is not empty.
  std::array<float, format::kExpertsMax> scores;
  const std::size_t width = ranks.size() / groups.groups;
  for (std::size_t g = 0; g < groups.groups; ++g)
    scores[g] = group_score(ranks.subspan(g * width, width), groups.score);
  const std::span all(scores.data(), groups.groups);
  std::array<bool, format::kExpertsMax> kept{};
  for (std::uint64_t i = 0; i < groups.kept; ++i) {
    const std::size_t best = largest(all);
    kept[best] = true;
    all[best] = kNothing;
  }
  for (std::size_t g = 0; g < groups.groups; ++g)
    if (!kept[g]) std::ranges::fill(ranks.subspan(g * width, width), kNothing);
}

/// Scores of a softmax that are divided by their sum are the softmax over the chosen logits, which loses less
/// to rounding. Their sum is at least k / experts, so that the usual summand does not change it.
bool is_softmax_of_chosen(const format::Router& router) {
  return router.score == format::RouterScore::softmax && router.renormalise &&
         router.renormalise_epsilon == format::Router().renormalise_epsilon;
}

}  // namespace

void ExpertChooser::reserve(std::size_t experts, std::size_t experts_per_token) {
  for (Buffer<float>* buffer : {&scores_, &ranks_}) buffer->reserve(base::align_up(experts, kLanes));
  chosen_.reserve(base::align_up(experts_per_token, kLanes));
}

void ExpertChooser::choose(const Kernels& kernels, const format::Router& router,
                           std::span<const float> logits, const float* selection_bias,
                           std::span<std::uint32_t> chosen, std::span<float> weights) {
  const std::size_t experts = logits.size();
  const std::span ranks(ranks_.data(), experts);
  const bool by_score = selection_bias != nullptr || router.groups;
  if (by_score || !is_softmax_of_chosen(router)) score(kernels, router, logits);
  // Scores rise with the logits, so without a bias these give the same order, and fewer ties.
  std::copy_n(by_score ? scores_.data() : logits.data(), experts, ranks.begin());
  if (selection_bias != nullptr)
    for (std::size_t e = 0; e < experts; ++e) ranks[e] += selection_bias[e];
  if (router.groups) keep_best_groups(*router.groups, ranks);
  // k passes, because k is small and std::partial_sort leaves the order of equal elements open.
  for (std::uint32_t& expert : chosen) {
    expert = static_cast<std::uint32_t>(largest(ranks));
    last_chosen_ = ranks[expert];
    ranks[expert] = kNothing;
  }
  weigh(kernels, router, logits, chosen, weights);
}

float ExpertChooser::margin(std::size_t experts) const {
  return last_chosen_ - *std::max_element(ranks_.data(), ranks_.data() + experts);
}

void ExpertChooser::score(const Kernels& kernels, const format::Router& router,
                          std::span<const float> logits) {
  const std::size_t experts = logits.size();
  std::ranges::copy(logits, scores_.data());
  if (router.score == format::RouterScore::sigmoid)
    return kernels.sigmoid(scores_.data(), base::align_up(experts, kLanes));
  const float most = logits[largest(logits)];
  const float sum = kernels.exp_sum(scores_.data(), experts, most);
  for (std::size_t e = 0; e < experts; ++e) scores_[e] /= sum;
}

void ExpertChooser::weigh(const Kernels& kernels, const format::Router& router, std::span<const float> logits,
                          std::span<const std::uint32_t> chosen, std::span<float> weights) {
  const std::size_t count = chosen.size();
  float sum = 1;
  if (is_softmax_of_chosen(router)) {
    for (std::size_t i = 0; i < count; ++i) chosen_[i] = logits[chosen[i]];
    sum = kernels.exp_sum(chosen_.data(), count, *std::max_element(chosen_.data(), chosen_.data() + count));
  } else {
    for (std::size_t i = 0; i < count; ++i) chosen_[i] = scores_[chosen[i]];
    // The summand is that of the released implementations: all scores may be 0.
    if (router.renormalise)
      sum = std::accumulate(chosen_.data(), chosen_.data() + count, 0.0f) +
            static_cast<float>(router.renormalise_epsilon);
  }
  const auto scale = static_cast<float>(router.scale);
  for (std::size_t i = 0; i < count; ++i) weights[i] = chosen_[i] / sum * scale;
}

void Engine::Impl::route(const Layer& layer) {
  const LayerShape& sizes = layer.shape;
  const std::size_t top = sizes.experts_per_token;
  routing.experts.assign(rows.size() * top, 0);
  routing.weights.assign(rows.size() * top, 1.0f);
  routing.shared_weights.assign(rows.size(), 1.0f);
  // A margin takes another pass over the logits, so it is computed only for somebody who listens.
  const bool margins_wanted = top < sizes.experts && std::ranges::any_of(rows, [](const StepRow& row) {
                                return row.sequence->on_routing != nullptr;
                              });
  routing.margins.resize(margins_wanted ? rows.size() : 0);
  // A dense layer is one expert with weight 1 for every row, as the vectors were filled above.
  if (sizes.router) {
    router_logits(layer);
    for_each_row([&](std::size_t r, unsigned worker) {
      ExpertChooser& chooser = scratch[worker].chooser;
      chooser.choose(kernels, *sizes.router, {&activations.router[r * sizes.experts], sizes.experts},
                     layer.weights.selection_bias.data(), std::span(&routing.experts[r * top], top),
                     std::span(&routing.weights[r * top], top));
      if (const float* scale = layer.weights.expert_scale.data(); scale != nullptr)
        for (std::size_t i = 0; i < top; ++i)
          routing.weights[r * top + i] *= scale[routing.experts[r * top + i]];
      if (margins_wanted) routing.margins[r] = chooser.margin(sizes.experts);
      if (sizes.shared && sizes.shared->gate) routing.shared_weights[r] = shared_weight(layer, r);
    });
  }
  sort_assignments(layer);
  report_routing(layer);
}

// A task is a block of rows for a block of experts. With a hundred experts the matrix has a megabyte: all
// rows of a task use it while it is in the caches, and a single row is shared out, too, because one worker
// alone would read it slowly.
void Engine::Impl::router_logits(const Layer& layer) {
  constexpr std::size_t kRows = 16;
  constexpr std::size_t kExperts = 32;
  const LayerWeights& w = layer.weights;
  const std::size_t experts = layer.shape.experts;
  const std::size_t expert_blocks = base::divide_up(experts, kExperts);
  const Buffer<float>& in = layer.shape.has_own_router_input() ? activations.router_in : activations.normed;
  pool.run_in_shares(base::divide_up(rows.size(), kRows) * expert_blocks, [&](std::size_t task, unsigned) {
    const std::size_t first = task % expert_blocks * kExperts;
    const std::size_t count = std::min(kExperts, experts - first);
    const std::size_t row = task / expert_blocks * kRows;
    const std::size_t row_end = std::min(row + kRows, rows.size());
    kernels.dots(&in[row * dim], dim, row_end - row, &w.router[first * dim], dim, count, dim,
                 &activations.router[row * experts + first], experts);
    for (std::size_t r = row; r < row_end; ++r) {
      const std::span logits(&activations.router[r * experts + first], count);
      if (layer.shape.router->logit_bias)
        for (std::size_t i = 0; i < count; ++i) logits[i] += w.router_bias[first + i];
      require_finite_logits(layer, r, logits);
    }
  });
}

void Engine::Impl::require_finite_logits(const Layer& layer, std::size_t row,
                                         std::span<const float> logits) const {
  if (std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); })) return;
  throw base::Error(base::ErrorKind::malformed,
                    weights.model().container.path().string() + ": layer " + std::to_string(layer.index) +
                        ": the router gives a value that is not finite at position " +
                        std::to_string(rows[row].position));
}

/// The sigmoid of one logit.
float Engine::Impl::shared_weight(const Layer& layer, std::size_t row) {
  alignas(64) std::array<float, kLanes> lanes{};
  kernels.dots(&activations.normed[row * dim], dim, 1, layer.weights.shared->router.data(), dim, 1, dim,
               lanes.data(), 1);
  kernels.sigmoid(lanes.data(), kLanes);
  return lanes[0];
}

// A counting sort, which is stable: an expert's rows stay in their order. While assignments are filled in,
// first_assignment[e] moves from the begin of expert e to its end, which is the begin of the next one; the
// shift afterwards puts the begins back.
void Engine::Impl::sort_assignments(const Layer& layer) {
  const std::size_t top = layer.shape.experts_per_token;
  const std::size_t experts = layer.shape.experts;
  auto& first = routing.first_assignment;
  first.assign(experts + 1, 0);
  for (const std::uint32_t e : routing.experts) ++first[e + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  routing.assignments.resize(rows.size() * top);
  for (std::uint32_t r = 0; r < rows.size(); ++r)
    for (std::size_t i = 0; i < top; ++i)
      routing.assignments[first[routing.experts[r * top + i]]++] = {r, routing.weights[r * top + i]};
  std::shift_right(first.begin(), first.end(), 1);
  first.front() = 0;
  routing.used.clear();
  for (std::uint32_t e = 0; e < experts; ++e)
    if (first[e + 1] > first[e]) routing.used.push_back(e);
}

void Engine::Impl::report_routing(const Layer& layer) {
  if (!layer.shape.router) return;
  const std::size_t top = layer.shape.experts_per_token;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    // On the thread that called step(), after the parallel part: listeners need no lock, and events come in
    // order.
    if (!rows[r].sequence->on_routing) continue;
    rows[r].sequence->on_routing(
        {.position = rows[r].position,
         .token = rows[r].token,
         .layer = layer.index,
         .experts = std::span(&routing.experts[r * top], top),
         .weights = std::span(&routing.weights[r * top], top),
         .margin = routing.margins.empty() ? std::nullopt : std::optional(routing.margins[r])});
  }
}

}  // namespace sluice::runtime
