// The mixture of experts: y = sum over the k chosen experts e of weight_e * down_e(silu(gate_e h) * up_e h)
// (arXiv 2401.04088 section 2.1). Rows are grouped by expert, so that an expert's weights are read once for
// all rows of the step.
//
// Two regions of the worker pool compute a group of experts: gate and up together, then down. A hidden value
// needs all inputs, and an output of down needs all hidden values, so there must be a barrier between them.

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {

void Engine::Impl::mixture(const LayerWeights& w, std::size_t layer) {
  Stopwatch watch;
  route(w, layer);
  watch.lap(part_seconds.router);
  gather(w);
  LayerExperts experts(weights, layer, routing.used);
  while (experts.next_group()) {
    gate_and_up(experts);
    down(experts);
  }
  if (observer != nullptr)
    observer->observe({routing, activations.normed.data(), observed_hidden.data()}, pool);
  watch.lap(part_seconds.experts);
}

// Every chosen expert gets its rows side by side, because a product takes adjacent rows. Rows are copied in
// their quantized form: quantizing k times would give the same codes. Experts share two buffers, each in the
// range of its assignments; reset() for each expert is needed where experts differ in type, and only grows
// memory.
void Engine::Impl::gather(const LayerWeights& w) {
  const InputRows in = activations.mixture_in.current();
  const std::size_t count = routing.assignments.size();
  for (const std::uint32_t e : routing.used) {
    const Matrix& gate = w.experts[e].gate.matrix;
    const Matrix& down = w.experts[e].down.matrix;
    activations.expert_in.reset(gate.layout.type, count, padded.dim, format::kActivationChunk);
    activations.expert_hidden.reset(down.layout.type, count, padded.hidden, format::kActivationChunkDown);
    const auto assignments = routing.assignments_of(e);
    const InputRows expert_in = inputs_of(e, gate);
    for (std::size_t i = 0; i < assignments.size(); ++i) expert_in.copy_row(i, in, assignments[i].row);
  }
  if (observer != nullptr) observed_hidden.reserve(count * padded.hidden);
}

InputRows Engine::Impl::inputs_of(std::uint32_t expert, const Matrix& matrix) {
  return activations.expert_in.rows(matrix.layout.type, routing.first_assignment[expert],
                                    routing.assignments_of(expert).size());
}

InputRows Engine::Impl::hidden_of(std::uint32_t expert, const Matrix& matrix) {
  return activations.expert_hidden.rows(matrix.layout.type, routing.first_assignment[expert],
                                        routing.assignments_of(expert).size());
}

// hidden = silu(gate h) * (up h), quantized as soon as a slice is done. A task is a slice of one expert's
// hidden values. It computes gate and up for the same outputs, so that their floats stay with the worker and
// a full row of them is never stored.
void Engine::Impl::gate_and_up(const LayerExperts& experts) {
  // A slice must hold whole chunks of the down projection's input, because a chunk's scale needs all its
  // values.
  static_assert(format::kPanelRows % format::kActivationChunkDown == 0);
  const std::size_t panels_total = padded.hidden / format::kPanelRows;
  // Decoding has k experts to share out; a prompt has more of them, and so more tasks of the same size.
  const std::size_t slice = slice_panels(panels_total * shape.experts_per_token, pool.thread_count());
  const std::size_t slices = base::divide_up(panels_total, slice);
  experts.run(experts.order().size() * slices, [&](std::size_t task, unsigned worker) {
    const std::uint32_t e = experts.order()[task / slices];
    const std::size_t first = task % slices * slice;
    const std::size_t panels = std::min(slice, panels_total - first);
    const std::size_t column = first * format::kPanelRows;
    const std::size_t width = panels * format::kPanelRows;
    float* const gate = scratch[worker].gate.data();
    float* const up = scratch[worker].up.data();
    const Matrix gate_matrix = experts.matrix(e, ExpertMatrix::gate, first + panels);
    const InputRows in = inputs_of(e, gate_matrix);
    multiply_slice(gate_matrix, in, first, panels, gate, width, worker);
    multiply_slice(experts.matrix(e, ExpertMatrix::up, first + panels), in, first, panels, up, width, worker);

    const InputRows hidden = hidden_of(e, experts.mapped(e, ExpertMatrix::down));
    for (std::size_t i = 0; i < in.rows(); ++i) {
      float* const row = gate + i * width;
      kernels.silu_multiply(row, up + i * width, width, row);
      hidden.fill(kernels, i, column, width, row);
      if (observer != nullptr)
        std::memcpy(&observed_hidden[(routing.first_assignment[e] + i) * padded.hidden + column], row,
                    width * sizeof(float));
    }
  });
}

// block_out = sum of weight * (down hidden). A task is a slice of dim, not of an expert: each output is then
// summed by one worker, without a lock. It adds up all experts in the order of their index, so that the order
// of sums does not depend on the rows or on the groups.
void Engine::Impl::down(const LayerExperts& experts) {
  const std::size_t panels_total = padded.dim / format::kPanelRows;
  const std::size_t slice = slice_panels(panels_total, pool.thread_count());
  experts.run(base::divide_up(panels_total, slice), [&](std::size_t task, unsigned worker) {
    const std::size_t first = task * slice;
    const std::size_t panels = std::min(slice, panels_total - first);
    const std::size_t width = panels * format::kPanelRows;
    float* const block_out = &activations.block_out[first * format::kPanelRows];
    if (experts.is_first_group())
      for (std::size_t r = 0; r < rows.size(); ++r) std::fill_n(block_out + r * padded.dim, width, 0.0f);
    float* const out = scratch[worker].gate.data();
    for (const std::uint32_t e : experts.group()) {
      const Matrix matrix = experts.matrix(e, ExpertMatrix::down, first + panels);
      multiply_slice(matrix, hidden_of(e, matrix), first, panels, out, width, worker);
      const auto assignments = routing.assignments_of(e);
      for (std::size_t i = 0; i < assignments.size(); ++i)
        kernels.add_scaled(out + i * width, assignments[i].weight, width,
                           block_out + assignments[i].row * padded.dim);
    }
  });
}

}  // namespace sluice::runtime
