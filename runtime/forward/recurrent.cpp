// Delta nets and short convolutions share this: the states that a step makes, and causal convolutions.
//
// The rows of a sequence in a step are one run, or two where the step keeps a snapshot between them. A run
// begins with a state and ends with another one, which its last row, or the last token of each head, writes
// as a whole. A row finds the tokens before it among the step's rows, or in the state from which its sequence
// began, so the split into steps changes no bit.

#include <algorithm>
#include <cstring>

#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {

void Engine::Impl::take_states(StepPart& part) {
  if (recurrent_pool.state_bytes() == 0) return;
  const RecurrentState& before = part.sequence->state;
  part.from = before ? before.data() : recurrent_pool.zeros();
  if (part.snapshot_rows > 0 && part.snapshot_rows < part.row_count) part.snapshot = recurrent_pool.take();
  part.end = recurrent_pool.take();
}

std::array<StepRun, 2> Engine::Impl::runs_of(const StepPart& part) const {
  // There is no state in a model whose convolutions see one token and that has no delta net.
  float* const end = part.end ? part.end.data() : nullptr;
  if (!part.snapshot) return {StepRun{part.first_row, part.row_count, part.from, end}, StepRun{}};
  float* const snapshot = part.snapshot.data();
  const std::size_t rest = part.row_count - part.snapshot_rows;
  return {StepRun{part.first_row, part.snapshot_rows, part.from, snapshot},
          StepRun{part.first_row + part.snapshot_rows, rest, snapshot, end}};
}

void Engine::Impl::reserve_recurrent(const WeightMatrix& output, std::size_t taps, const PaddedWidths& widths,
                                     std::size_t row_count) {
  Activations& a = activations;
  a.recurrent_in.reserve(row_count * widths.inputs);
  a.channels.reserve(row_count * widths.channels);
  a.convolved.reserve(row_count * widths.channels);
  a.result.reserve(row_count * widths.result);
  a.recurrent_out.reset(output.matrix.layout.type, row_count, widths.result, kAttentionChunk);
  for (Scratch& s : scratch)
    if (s.taps.size() < taps) s.taps.resize(taps);
}

void Engine::Impl::convolve(const Layer& layer, const Buffer<float>& factors, std::size_t taps, bool silu) {
  Activations& a = activations;
  const std::size_t width = layer.padded.channels;
  const std::size_t past = recurrent_pool.layer(layer.index).convolution;
  for_each_row([&](std::size_t r, unsigned worker) {
    const StepPart& part = parts[rows[r].part];
    const std::size_t in_part = r - part.first_row;
    const float** const inputs = scratch[worker].taps.data();
    for (std::size_t tap = 0; tap < taps; ++tap) {
      const std::size_t back = taps - 1 - tap;  // tokens before this one
      inputs[tap] =
          back <= in_part ? &a.channels[(r - back) * width] : part.from + past + (tap + in_part) * width;
    }
    kernels.convolve(inputs, factors.data(), taps, width, silu, &a.convolved[r * width]);
    for (const StepRun& run : runs_of(part)) {
      if (run.first_row + run.row_count != r + 1) continue;
      for (std::size_t tap = 1; tap < taps; ++tap)
        std::memcpy(run.to + past + (tap - 1) * width, inputs[tap], width * sizeof(float));
    }
  });
}

void Engine::Impl::recurrent_output(const Layer& layer, const Matrix& output) {
  Activations& a = activations;
  const std::size_t width = layer.padded.result;
  const InputRows in = a.recurrent_out.reset(output.layout.type, rows.size(), width, kAttentionChunk);
  for_each_row([&](std::size_t r, unsigned) {
    float* const row = &a.result[r * width];
    std::fill(row + output.layout.cols, row + width, 0.0f);  // another layer may have wider rows
    in.fill(kernels, r, 0, width, row);
  });
  products(in, {{&output, a.block_out.data(), dim}});
}

}  // namespace sluice::runtime
