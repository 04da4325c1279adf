// The mixture of experts: y = sum over the k chosen experts e of weight_e * down_e(activation(gate_e h) *
// up_e h) (arXiv 2401.04088 section 2.1), and of what every row uses beside them: a shared expert (arXiv
// 2401.06066), or a dense feed-forward. Rows are grouped by expert, so that an expert's weights are read once
// for all rows of the step.
//
// Two regions of the worker pool compute a group of experts: gate and up together, then down. A hidden value
// needs all inputs, and an output of down needs all hidden values, so there must be a barrier between them.
// The regions of the first group compute what every row uses. The order of a row's sum is: shared
// expert, dense feed-forward, then experts by their index. A dense feed-forward with norms of its own has a
// sum of its own, and reads other rows than the experts.

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {

GatedActivation gated_activation(const format::Activation& activation) {
  GatedActivation gated{ActivationKind::silu, 0, 0};
  if (std::holds_alternative<format::GeluTanh>(activation)) gated.kind = ActivationKind::gelu_tanh;
  if (const auto* clamped = std::get_if<format::ClampedSwiglu>(&activation))
    gated = {ActivationKind::clamped_swiglu, static_cast<float>(clamped->alpha),
             static_cast<float>(clamped->limit)};
  return gated;
}

void Engine::Impl::reserve_mixture(std::size_t index, std::size_t row_count) {
  const LayerWeights& w = weights.model().layers[index];
  const LayerShape& sizes = shape.layers[index];
  const PaddedWidths& widths = padded[index];
  Activations& a = activations;
  const std::size_t assignment_count = row_count * sizes.experts_per_token;
  for (const ExpertWeights& expert : w.experts) {
    const format::TileType in = expert.gate.matrix.layout.type;
    a.mixture_in.reset(in, row_count, dim, format::kActivationChunk);
    a.expert_in.reset(in, assignment_count, dim, format::kActivationChunk);
    a.expert_hidden.reset(expert.down.matrix.layout.type, assignment_count, widths.hidden,
                          format::kActivationChunkDown);
  }
  if (w.shared)
    a.shared_hidden.reset(w.shared->expert.down.matrix.layout.type, row_count, widths.shared,
                          format::kActivationChunkDown);
  if (w.dense)
    a.dense_hidden.reset(w.dense->down.matrix.layout.type, row_count, widths.dense,
                         format::kActivationChunkDown);
  if (sizes.has_separate_norms()) {
    a.dense_in.reset(w.dense->gate.matrix.layout.type, row_count, dim, format::kActivationChunk);
    a.dense_out.reserve(row_count * dim);
  }
  if (sizes.has_own_router_input()) a.router_in.reserve(row_count * dim);
}

// A layer may have three inputs; that of the experts comes last and stays in `normed`, where
// calibration, the gate of a shared expert and most routers read it.
void Engine::Impl::norm_inputs(const Layer& layer) {
  const LayerWeights& w = layer.weights;
  Activations& a = activations;
  if (layer.shape.has_own_router_input()) {
    for_each_row([&](std::size_t r, unsigned) {
      kernels.rms_norm(&a.x[r * dim], w.router_norm.data(), static_cast<float>(shape.norm_epsilon),
                       shape.width, dim, &a.router_in[r * dim]);
    });
  }
  const bool separate = layer.shape.has_separate_norms();
  if (separate) rms_norm(w.ffn_norm, a.dense_in, w.dense->gate.matrix.layout.type, format::kActivationChunk);
  rms_norm(separate ? w.experts_norm : w.ffn_norm, a.mixture_in, w.experts.front().gate.matrix.layout.type,
           format::kActivationChunk);
}

/// Adds what a dense feed-forward with norms of its own has computed to what the experts have.
void Engine::Impl::norm_results(const Layer& layer) {
  if (!layer.shape.has_separate_norms()) return;
  const auto epsilon = static_cast<float>(shape.norm_epsilon);
  for_each_row([&](std::size_t r, unsigned) {
    float* const dense = &activations.dense_out[r * dim];
    float* const experts = &activations.block_out[r * dim];
    kernels.rms_norm(dense, layer.weights.dense_post_norm.data(), epsilon, shape.width, dim, dense);
    kernels.rms_norm(experts, layer.weights.experts_post_norm.data(), epsilon, shape.width, dim, experts);
    kernels.add(dense, dim, experts);
  });
}

void Engine::Impl::collect_unrouted(const Layer& layer) {
  const LayerWeights& w = layer.weights;
  Activations& a = activations;
  unrouted.clear();
  if (w.shared)
    unrouted.push_back({&w.shared->expert, a.mixture_in.current(),
                        a.shared_hidden.reset(w.shared->expert.down.matrix.layout.type, rows.size(),
                                              layer.padded.shared, format::kActivationChunkDown),
                        a.block_out.data(), routing.shared_weights.data()});
  const bool separate = layer.shape.has_separate_norms();
  if (w.dense)
    unrouted.push_back({&*w.dense, separate ? a.dense_in.current() : a.mixture_in.current(),
                        a.dense_hidden.reset(w.dense->down.matrix.layout.type, rows.size(),
                                             layer.padded.dense, format::kActivationChunkDown),
                        separate ? a.dense_out.data() : a.block_out.data(), nullptr});
}

void Engine::Impl::mixture(const Layer& layer) {
  Stopwatch watch;
  route(layer);
  watch.lap(part_seconds.router);
  collect_unrouted(layer);
  gather(layer);
  LayerExperts experts(weights, layer.index, routing.used);
  while (experts.next_group()) {
    gate_and_up(layer, experts);
    down(experts);
  }
  if (observer != nullptr)
    observer->observe({routing, activations.normed.data(), dim, observed_hidden.data(), layer.padded.hidden},
                      pool);
  watch.lap(part_seconds.experts);
}

// Every chosen expert gets its rows side by side, because a product takes adjacent rows. Rows are copied in
// their quantized form: quantizing k times would give the same codes. Experts share two buffers, each in the
// range of its assignments; reset() for each expert is needed where experts differ in type, and only grows
// memory.
void Engine::Impl::gather(const Layer& layer) {
  Activations& a = activations;
  const LayerWeights& w = layer.weights;
  const std::size_t count = routing.assignments.size();
  for (const std::uint32_t e : routing.used) {
    a.expert_in.reset(w.experts[e].gate.matrix.layout.type, count, dim, format::kActivationChunk);
    a.expert_hidden.reset(w.experts[e].down.matrix.layout.type, count, layer.padded.hidden,
                          format::kActivationChunkDown);
  }
  if (observer != nullptr) observed_hidden.reserve(count * layer.padded.hidden);

  const InputRows in = a.mixture_in.current();
  const auto copy_rows = [&](std::size_t index, unsigned) {
    const std::uint32_t e = routing.used[index];
    const InputRows expert_in = inputs_of(e, w.experts[e].gate.matrix);
    const auto assignments = routing.assignments_of(e);
    for (std::size_t i = 0; i < assignments.size(); ++i) expert_in.copy_row(i, in, assignments[i].row);
  };
  // Copying one row k times is less work than waking the workers.
  if (rows.size() > 1) return pool.run(routing.used.size(), copy_rows);
  for (std::size_t index = 0; index < routing.used.size(); ++index) copy_rows(index, 0);
}

InputRows Engine::Impl::inputs_of(std::uint32_t expert, const Matrix& matrix) {
  return activations.expert_in.rows(matrix.layout.type, routing.first_assignment[expert],
                                    routing.assignments_of(expert).size());
}

InputRows Engine::Impl::hidden_of(std::uint32_t expert, const Matrix& matrix) {
  return activations.expert_hidden.rows(matrix.layout.type, routing.first_assignment[expert],
                                        routing.assignments_of(expert).size());
}

// hidden = activation(gate h) * (up h), quantized as soon as a slice is done. A task is a slice of one
// expert's hidden values. It computes gate and up for the same outputs, so that their floats stay with the
// worker and a full row of them is never stored. The slices of what every row uses come first: it is always
// in memory, so workers have them to compute while experts are read.
void Engine::Impl::gate_and_up(const Layer& layer, const LayerExperts& experts) {
  // A slice must hold whole chunks of the down projection's input, because a chunk's scale needs all its
  // values.
  static_assert(format::kPanelRows % format::kActivationChunkDown == 0);
  const std::span<const Unrouted> beside(unrouted.data(), experts.is_first_group() ? unrouted.size() : 0);
  const std::size_t expert_panels = layer.padded.hidden / format::kPanelRows;
  std::size_t beside_panels = 0;
  for (const Unrouted& all : beside) beside_panels += all.hidden_panels();
  // Decoding has k experts to share out; a prompt has more of them, and so more tasks of the same size.
  const std::size_t slice =
      slice_panels(expert_panels * layer.shape.experts_per_token + beside_panels, pool.thread_count());
  const std::size_t slices = base::divide_up(expert_panels, slice);
  std::size_t task_count = experts.order().size() * slices;
  for (const Unrouted& all : beside) task_count += base::divide_up(all.hidden_panels(), slice);
  experts.run(task_count, [&](std::size_t task, unsigned worker) {
    for (const Unrouted& all : beside) {
      const std::size_t first = task * slice;
      if (first < all.hidden_panels())
        return hidden_slice({all.weights->gate.matrix, all.weights->up.matrix, all.in, all.hidden, first,
                             std::min(slice, all.hidden_panels() - first), nullptr},
                            worker);
      task -= base::divide_up(all.hidden_panels(), slice);
    }
    const std::uint32_t e = experts.order()[task / slices];
    const std::size_t first = task % slices * slice;
    const std::size_t panels = std::min(slice, expert_panels - first);
    const Matrix gate = experts.matrix(e, ExpertMatrix::gate, first + panels);
    float* const observed =
        observer == nullptr ? nullptr : &observed_hidden[routing.first_assignment[e] * layer.padded.hidden];
    hidden_slice({gate, experts.matrix(e, ExpertMatrix::up, first + panels), inputs_of(e, gate),
                  hidden_of(e, experts.mapped(e, ExpertMatrix::down)), first, panels, observed},
                 worker);
  });
}

void Engine::Impl::hidden_slice(const HiddenSlice& slice, unsigned worker) {
  const std::size_t column = slice.first_panel * format::kPanelRows;
  const std::size_t width = slice.panels * format::kPanelRows;
  float* const gate = scratch[worker].gate.data();
  float* const up = scratch[worker].up.data();
  multiply_slice(slice.gate, slice.in, slice.first_panel, slice.panels, gate, width, worker);
  multiply_slice(slice.up, slice.in, slice.first_panel, slice.panels, up, width, worker);
  for (std::size_t i = 0; i < slice.in.rows(); ++i) {
    float* const row = gate + i * width;
    kernels.activate(activation, row, up + i * width, width, row);
    slice.hidden.fill(kernels, i, column, width, row);
    if (slice.observed != nullptr)
      std::memcpy(slice.observed + i * slice.hidden.cols() + column, row, width * sizeof(float));
  }
}

// block_out = sum of weight * (down hidden). A task is a slice of dim, not of an expert: each output is then
// summed by one worker, without a lock. It adds up all experts in the order of their index, so that the order
// of sums does not depend on the rows or on the groups.
void Engine::Impl::down(const LayerExperts& experts) {
  const std::size_t panels_total = dim / format::kPanelRows;
  const std::size_t slice = slice_panels(panels_total, pool.thread_count());
  experts.run(base::divide_up(panels_total, slice), [&](std::size_t task, unsigned worker) {
    const std::size_t first = task * slice;
    const std::size_t panels = std::min(slice, panels_total - first);
    const std::size_t width = panels * format::kPanelRows;
    float* const block_out = &activations.block_out[first * format::kPanelRows];
    float* const out = scratch[worker].gate.data();
    if (experts.is_first_group()) {
      const auto clear = [&](float* sums) {
        for (std::size_t r = 0; r < rows.size(); ++r) std::fill_n(sums + r * dim, width, 0.0f);
      };
      clear(block_out);
      for (const Unrouted& all : unrouted) {
        float* const sums = all.out + first * format::kPanelRows;
        if (sums != block_out) clear(sums);
        multiply_slice(all.weights->down.matrix, all.hidden, first, panels, out, width, worker);
        for (std::size_t r = 0; r < rows.size(); ++r)
          kernels.add_scaled(out + r * width, all.row_weights == nullptr ? 1.0f : all.row_weights[r], width,
                             sums + r * dim);
      }
    }
    for (const std::uint32_t e : experts.group()) {
      const Matrix matrix = experts.matrix(e, ExpertMatrix::down, first + panels);
      multiply_slice(matrix, hidden_of(e, matrix), first, panels, out, width, worker);
      const auto assignments = routing.assignments_of(e);
      for (std::size_t i = 0; i < assignments.size(); ++i)
        kernels.add_scaled(out + i * width, assignments[i].weight, width,
                           block_out + assignments[i].row * dim);
    }
  });
}

}  // namespace sluice::runtime
