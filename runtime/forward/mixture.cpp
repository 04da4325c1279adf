// The mixture of experts: y = sum over the k chosen experts e of weight_e * down_e(activation(gate_e h) *
// up_e h) (arXiv 2401.04088 section 2.1), and of the shared expert, where there is one, which every row has
// chosen (arXiv 2401.06066). Rows are grouped by expert, so that an expert's weights are read once for all
// rows of the step.
//
// Two regions of the worker pool compute a group of experts: gate and up together, then down. A hidden value
// needs all inputs, and an output of down needs all hidden values, so there must be a barrier between them.
// The shared expert computes in the regions of the first group. The order of a row's sum is: shared expert,
// then experts by their index.

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

void Engine::Impl::mixture(const Layer& layer) {
  Stopwatch watch;
  route(layer);
  watch.lap(part_seconds.router);
  gather(layer);
  LayerExperts experts(weights, layer.index, routing.used);
  while (experts.next_group()) {
    gate_and_up(layer, experts);
    down(layer, experts);
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
  if (w.shared)
    a.shared_hidden.reset(w.shared->expert.down.matrix.layout.type, rows.size(), layer.padded.shared,
                          format::kActivationChunkDown);
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
// worker and a full row of them is never stored. The shared expert's slices come first: it is always in
// memory, so workers have them to compute while experts are read.
void Engine::Impl::gate_and_up(const Layer& layer, const LayerExperts& experts) {
  // A slice must hold whole chunks of the down projection's input, because a chunk's scale needs all its
  // values.
  static_assert(format::kPanelRows % format::kActivationChunkDown == 0);
  const bool with_shared = layer.weights.shared && experts.is_first_group();
  const std::size_t expert_panels = layer.padded.hidden / format::kPanelRows;
  const std::size_t shared_panels = with_shared ? layer.padded.shared / format::kPanelRows : 0;
  // Decoding has k experts to share out; a prompt has more of them, and so more tasks of the same size.
  const std::size_t slice =
      slice_panels(expert_panels * layer.shape.experts_per_token + shared_panels, pool.thread_count());
  const std::size_t slices = base::divide_up(expert_panels, slice);
  const std::size_t shared_slices = base::divide_up(shared_panels, slice);
  experts.run(shared_slices + experts.order().size() * slices, [&](std::size_t task, unsigned worker) {
    if (task < shared_slices) {
      const ExpertWeights& shared = layer.weights.shared->expert;
      const std::size_t first = task * slice;
      const std::size_t panels = std::min(slice, shared_panels - first);
      hidden_slice({shared.gate.matrix, shared.up.matrix, activations.mixture_in.current(),
                    activations.shared_hidden.current(), first, panels, nullptr},
                   worker);
      return;
    }
    const std::size_t of_experts = task - shared_slices;
    const std::uint32_t e = experts.order()[of_experts / slices];
    const std::size_t first = of_experts % slices * slice;
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
void Engine::Impl::down(const Layer& layer, const LayerExperts& experts) {
  const std::size_t panels_total = dim / format::kPanelRows;
  const std::size_t slice = slice_panels(panels_total, pool.thread_count());
  experts.run(base::divide_up(panels_total, slice), [&](std::size_t task, unsigned worker) {
    const std::size_t first = task * slice;
    const std::size_t panels = std::min(slice, panels_total - first);
    const std::size_t width = panels * format::kPanelRows;
    float* const block_out = &activations.block_out[first * format::kPanelRows];
    float* const out = scratch[worker].gate.data();
    if (experts.is_first_group()) {
      for (std::size_t r = 0; r < rows.size(); ++r) std::fill_n(block_out + r * dim, width, 0.0f);
      if (layer.weights.shared) {
        multiply_slice(layer.weights.shared->expert.down.matrix, activations.shared_hidden.current(), first,
                       panels, out, width, worker);
        for (std::size_t r = 0; r < rows.size(); ++r)
          kernels.add_scaled(out + r * width, routing.shared_weights[r], width, block_out + r * dim);
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
