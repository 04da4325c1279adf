// Short convolutions (LFM2): gate b, gate c, x = W_in h; result = W_out (c * convolution(b * x)).

#include <algorithm>

#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {

void Engine::Impl::reserve_mixer(const ShortConvolutionWeights& w, const PaddedWidths& widths,
                                 std::size_t row_count) {
  reserve_recurrent(w.output, w.taps, widths, row_count);
}

void Engine::Impl::mix(const Layer& layer, const ShortConvolutionWeights& w) {
  Activations& a = activations;
  const std::size_t width = layer.padded.channels;
  const std::size_t channels = layer.shape.recurrent.channels;
  products(a.mixer_in.current(), {{&w.input.matrix, a.recurrent_in.data(), layer.padded.inputs}});
  for_each_row([&](std::size_t r, unsigned) {
    const float* const gate = &a.recurrent_in[r * layer.padded.inputs];
    const float* const x = gate + 2 * channels;
    float* const gated = &a.channels[r * width];
    for (std::size_t i = 0; i < channels; ++i) gated[i] = gate[i] * x[i];
    std::fill(gated + channels, gated + width, 0.0f);  // another layer may have wider rows
  });
  convolve(layer, w.convolution, w.taps, false);
  for_each_row([&](std::size_t r, unsigned) {
    const float* const gate = &a.recurrent_in[r * layer.padded.inputs + channels];
    const float* const convolved = &a.convolved[r * width];
    float* const result = &a.result[r * width];
    for (std::size_t i = 0; i < channels; ++i) result[i] = gate[i] * convolved[i];
  });
  recurrent_output(layer, w.output.matrix);
}

}  // namespace sluice::runtime
