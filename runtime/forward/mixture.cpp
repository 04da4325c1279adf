// The mixture of experts: y = sum over the k chosen experts e of weight_e * w2_e(silu(w1_e h) * w3_e h), with
// weights = softmax over the k largest gate logits (arXiv 2401.04088, section 2.1, and mistral-inference
// moe.py).

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/forward/session_impl.h"

namespace sluice::runtime {
namespace {

/// Indices of the k largest of `logits`, largest first; of equal ones the lower index.
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

struct Session::Impl::Group {
  const std::vector<ExpertWeights>& mapped;  ///< of the layer
  std::span<const std::uint32_t> experts;    ///< ascending: the order in which their outputs are added up
  std::span<const std::uint32_t> order;      ///< the same, those first that can be computed with first
  bool first = true;                         ///< of the layer's groups
  const ExpertCache::Layer* stream = nullptr;

  /// With all that the panels before `panels_end` need.
  [[nodiscard]] Matrix matrix(std::uint32_t expert, ExpertMatrix which, std::size_t panels_end) const {
    if (stream != nullptr) {
      stream->await(expert, which, panels_end);
      return stream->matrix(expert, which);
    }
    switch (which) {
      case ExpertMatrix::gate: return mapped[expert].w1.matrix;
      case ExpertMatrix::up: return mapped[expert].w3.matrix;
      case ExpertMatrix::down: break;
    }
    return mapped[expert].w2.matrix;
  }

  /// What is still being read from disk comes in the order of the tasks.
  void run(base::WorkerPool& pool, std::size_t task_count, base::TaskRef body) const {
    if (stream != nullptr) {
      pool.run(task_count, body);
    } else {
      pool.run_in_shares(task_count, body);
    }
  }
};

void Session::Impl::mixture(std::size_t layer, std::span<const TokenId> tokens) {
  const LayerWeights& w = weights.layers[layer];
  const Operand in =
      mixture_in.reset(w.experts.front().w1.matrix.layout.type, tokens_now, dim, format::kActivationChunk);
  timed(part_seconds.router, [&] {
    normalize(w.ffn_norm.data(), in);
    route(layer);
  });
  report_routing(layer, tokens);
  timed(part_seconds.experts, [&] {
    gather(layer, in);
    if (stream) {
      streamed_experts(layer);
    } else {
      mapped_experts(layer);
    }
    if (statistics != nullptr) add_statistics();
    for_each_token([&](std::size_t t, unsigned) { kernels.add(&update[t * dim], dim, &x[t * dim]); });
  });
}

void Session::Impl::route(std::size_t layer) {
  const LayerWeights& w = weights.layers[layer];
  const std::size_t top = params.num_experts_per_tok;
  routing.experts.assign(tokens_now * top, 0);
  routing.weights.assign(tokens_now * top, 1.0f);
  routing.margins.resize(options.on_routing && top < params.num_experts ? tokens_now : 0);
  if (!params.dense) {
    for_each_token([&](std::size_t t, unsigned worker) {
      const std::span gate(scratch[worker].router.data(), params.num_experts);
      for (std::size_t e = 0; e < params.num_experts; ++e) {
        gate[e] = kernels.dot(&normed[t * dim], &w.router[e * dim], dim);
        if (!std::isfinite(gate[e])) {
          throw base::Error(base::ErrorKind::malformed,
                            weights.container.path().string() + ": layer " + std::to_string(layer) +
                                ": the router gives a value that is not finite at position " +
                                std::to_string(position + t));
        }
      }
      const std::span chosen(&routing.experts[t * top], top);
      top_k(gate, chosen);
      if (!routing.margins.empty()) routing.margins[t] = margin_of(gate, chosen);
      float* const scores = scratch[worker].chosen.data();
      for (std::size_t i = 0; i < top; ++i) scores[i] = gate[chosen[i]];
      const float sum = kernels.exp_sum(scores, top, gate[chosen[0]]);
      for (std::size_t i = 0; i < top; ++i) routing.weights[t * top + i] = scores[i] / sum;
    });
  }
  sort_slots();
}

// By counting: `first_slot` is moved to each expert's end while its slots are filled, and so to the next's
// begin.
void Session::Impl::sort_slots() {
  const std::size_t top = params.num_experts_per_tok;
  auto& first = routing.first_slot;
  std::ranges::fill(first, 0);
  for (const std::uint32_t e : routing.experts) ++first[e + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  routing.slots.resize(tokens_now * top);
  for (std::uint32_t t = 0; t < tokens_now; ++t)
    for (std::size_t i = 0; i < top; ++i)
      routing.slots[first[routing.experts[t * top + i]]++] = {t, routing.weights[t * top + i]};
  std::shift_right(first.begin(), first.end(), 1);
  first.front() = 0;
  routing.used.clear();
  for (std::uint32_t e = 0; e < params.num_experts; ++e)
    if (first[e + 1] > first[e]) routing.used.push_back(e);
}

void Session::Impl::report_routing(std::size_t layer, std::span<const TokenId> tokens) {
  if (!options.on_routing || params.dense) return;
  const std::size_t top = params.num_experts_per_tok;
  for (std::size_t t = 0; t < tokens_now; ++t) {
    options.on_routing(
        {.position = position + t,
         .token = tokens[t],
         .layer = layer,
         .experts = std::span(&routing.experts[t * top], top),
         .weights = std::span(&routing.weights[t * top], top),
         .margin = routing.margins.empty() ? std::nullopt : std::optional(routing.margins[t])});
  }
}

// Every chosen expert gets its tokens' rows side by side, so that its weights are read once for all of them.
void Session::Impl::gather(std::size_t layer, const Operand& in) {
  const std::size_t slots_total = routing.slots.size();
  for (const std::uint32_t e : routing.used) {
    const ExpertWeights& expert = weights.layers[layer].experts[e];
    const auto slots = routing.slots_of(e);
    expert_in.reset(expert.w1.matrix.layout.type, slots_total, dim, format::kActivationChunk);
    expert_hidden.reset(expert.w2.matrix.layout.type, slots_total, hidden, format::kActivationChunkDown);
    const Operand rows = inputs_of(e, expert.w1.matrix);
    for (std::size_t row = 0; row < slots.size(); ++row) rows.copy_row(row, in, slots[row].token);
  }
  if (statistics != nullptr) kept_hidden.reserve(slots_total * hidden);
}

Operand Session::Impl::inputs_of(std::uint32_t expert, const Matrix& matrix) {
  return expert_in.rows(matrix.layout.type, routing.first_slot[expert], routing.slots_of(expert).size());
}

Operand Session::Impl::hidden_of(std::uint32_t expert, const Matrix& matrix) {
  return expert_hidden.rows(matrix.layout.type, routing.first_slot[expert], routing.slots_of(expert).size());
}

void Session::Impl::mapped_experts(std::size_t layer) {
  const auto& experts = weights.layers[layer].experts;
  std::vector<ProofPart> unproven;
  for (const std::uint32_t e : routing.used)
    if (weights.unproven(experts[e].part)) unproven.push_back(experts[e].part);
  weights.prove(unproven, pool);
  const Group group{.mapped = experts, .experts = routing.used, .order = routing.used};
  experts_up(group);
  experts_down(group);
}

void Session::Impl::streamed_experts(std::size_t layer) {
  const auto& experts = weights.layers[layer].experts;
  ExpertCache::Layer use(*stream, layer, routing.used);
  bool first = true;
  for (auto of_group = use.next(); !of_group.empty(); of_group = use.next()) {
    for (const std::uint32_t e : of_group) {
      if (!weights.unproven(experts[e].part)) continue;
      use.await_all(e);
      weights.proofs->prove(experts[e].part, use.bytes(e), pool);
    }
    const Group group{
        .mapped = experts, .experts = of_group, .order = use.order(), .first = first, .stream = &use};
    experts_up(group);
    experts_down(group);
    first = false;
  }
}

// First region: silu(w1 h) * (w3 h), quantized as soon as a slice is done. Tasks are (expert, slice of
// hidden).
void Session::Impl::experts_up(const Group& group) {
  const std::size_t panels_total = hidden / format::kPanelRows;
  // A slice must hold whole chunks of w2's input.
  static_assert(format::kPanelRows % format::kActivationChunkDown == 0);
  constexpr std::size_t kChunkPanels = 1;
  const std::size_t slice =
      slice_panels(panels_total * params.num_experts_per_tok, pool.thread_count(), kChunkPanels);
  const std::size_t slices = base::divide_up(panels_total, slice);
  group.run(pool, group.order.size() * slices, [&](std::size_t task, unsigned worker) {
    const std::uint32_t e = group.order[task / slices];
    const std::size_t rows = routing.slots_of(e).size();
    const std::size_t first = task % slices * slice;
    const std::size_t panels = std::min(slice, panels_total - first);
    const std::size_t width = panels * format::kPanelRows;
    float* gate = scratch[worker].gate.data();
    float* up = scratch[worker].up.data();
    const Matrix w1 = group.matrix(e, ExpertMatrix::gate, first + panels);
    const Operand in = inputs_of(e, w1);
    multiply(kernels, w1, in, first, panels, gate, width);
    const Matrix w3 = group.matrix(e, ExpertMatrix::up, first + panels);
    multiply(kernels, w3, in, first, panels, up, width);
    const Operand out = hidden_of(e, group.mapped[e].w2.matrix);
    for (std::size_t row = 0; row < rows; ++row) {
      kernels.silu_multiply(gate + row * width, up + row * width, width, gate + row * width);
      if (statistics != nullptr)
        std::memcpy(&kept_hidden[(routing.first_slot[e] + row) * hidden + first * format::kPanelRows],
                    gate + row * width, width * sizeof(float));
      out.fill(kernels, row, first * format::kPanelRows, width, gate + row * width);
    }
  });
}

// Second region: tasks are slices of dim; each adds up all experts, in the order of their index.
void Session::Impl::experts_down(const Group& group) {
  const std::size_t panels_total = dim / format::kPanelRows;
  const std::size_t slice = slice_panels(panels_total, pool.thread_count());
  group.run(pool, base::divide_up(panels_total, slice), [&](std::size_t task, unsigned worker) {
    const std::size_t first = task * slice;
    const std::size_t panels = std::min(slice, panels_total - first);
    const std::size_t width = panels * format::kPanelRows;
    float* out = scratch[worker].gate.data();
    for (std::size_t t = 0; group.first && t < tokens_now; ++t)
      std::fill_n(&update[t * dim + first * format::kPanelRows], width, 0.0f);
    for (const std::uint32_t e : group.experts) {
      const auto slots = routing.slots_of(e);
      const Matrix w2 = group.matrix(e, ExpertMatrix::down, first + panels);
      multiply(kernels, w2, hidden_of(e, w2), first, panels, out, width);
      for (std::size_t row = 0; row < slots.size(); ++row)
        kernels.add_scaled(out + row * width, slots[row].weight, width,
                           &update[slots[row].token * dim + first * format::kPanelRows]);
    }
  });
}

}  // namespace sluice::runtime
