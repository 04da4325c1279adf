// Gated delta nets (arXiv 2412.06464), as Qwen3-Next and Qwen3.5 have them: q, k, v, z = W h; q, k and v go
// through a causal convolution and SiLU; q and k are scaled to length 1, q times key_dim^-1/2 as well. Each
// value head then fades its state, corrects its answer to k towards v, and answers q; value heads share the
// queries and keys of a key head in groups. The result is normalized, gated by silu(z) and projected.
//
// The delta rule runs token after token, in a prompt as in decoding, which keeps the bits the same. Heads and
// sequences do not depend on one another and are the tasks of workers. kDeltaTokens tokens at a time are
// copied next to one another, padded to whole lanes, so that they stay in the caches with a block of the
// state's columns.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/kernels/fixed_math.h"

namespace sluice::runtime {
namespace {

/// transformers' epsilon of the squared length of queries and keys.
constexpr float kLengthEpsilon = 1e-6f;

std::size_t lanes(std::uint64_t count) { return static_cast<std::size_t>(base::align_up(count, kLanes)); }

/// Widths of a head's rows, and offsets of heads within a row of the convolution.
struct HeadPlaces {
  explicit HeadPlaces(const format::GatedDeltaNet& net)
      : key_dim(net.key_dim),
        value_dim(net.value_dim),
        key_stride(lanes(net.key_dim)),
        value_stride(lanes(net.value_dim)),
        group(net.value_heads / net.key_heads),
        key_rows(net.key_heads * net.key_dim) {}

  [[nodiscard]] std::size_t query(std::size_t head) const { return head / group * key_dim; }
  [[nodiscard]] std::size_t key(std::size_t head) const { return key_rows + query(head); }
  [[nodiscard]] std::size_t value(std::size_t head) const { return 2 * key_rows + head * value_dim; }

  std::size_t key_dim, value_dim;
  std::size_t key_stride, value_stride;
  std::size_t group;  ///< value heads of a key head
  std::size_t key_rows;
};

/// The rows of one head while its tokens are computed.
struct HeadRows {
  HeadRows(float* memory, const HeadPlaces& places)
      : queries(memory),
        keys(queries + kDeltaTokens * places.key_stride),
        values(keys + kDeltaTokens * places.key_stride),
        results(values + kDeltaTokens * places.value_stride),
        gate(results + kDeltaTokens * places.value_stride),
        unit(gate + places.value_stride),
        query_scale(unit + places.key_stride) {}

  static std::size_t floats(const HeadPlaces& places) {
    return kDeltaTokens * 2 * (places.key_stride + places.value_stride) + places.value_stride +
           2 * places.key_stride;
  }

  float* queries;      ///< [token][key_stride]
  float* keys;         ///< [token][key_stride]
  float* values;       ///< [token][value_stride]
  float* results;      ///< [token][value_stride]
  float* gate;         ///< [value_stride]
  float* unit;         ///< [key_stride] ones, the weights with which a key's length becomes 1
  float* query_scale;  ///< [key_stride] the same for queries
};

void copy_padded(const float* from, std::size_t count, std::size_t stride, float* to) {
  std::memcpy(to, from, count * sizeof(float));
  std::fill(to + count, to + stride, 0.0f);
}

/// ln(1 + e^x); in double and without functions of the C library, for the same bits everywhere.
double softplus(double x) { return x > 40 ? x : logarithm(1 + exponential(x)); }

}  // namespace

void Engine::Impl::reserve_mixer(const DeltaNetWeights& w, const PaddedWidths& widths,
                                 std::size_t row_count) {
  reserve_recurrent(w.output, w.shape.convolution_tokens, widths, row_count);
  activations.gate.reserve(row_count * widths.result);
  activations.beta_decay.reserve(row_count * 2 * lanes(w.shape.value_heads));
  const HeadPlaces places(w.shape);
  for (Scratch& s : scratch) s.delta.reserve(HeadRows::floats(places));
}

void Engine::Impl::mix(const Layer& layer, const DeltaNetWeights& w) {
  Activations& a = activations;
  if (w.gate) {
    products(a.mixer_in.current(), {{&w.query_key_value.matrix, a.channels.data(), layer.padded.channels},
                                    {&w.gate->matrix, a.gate.data(), layer.padded.result}});
  } else {
    products(a.mixer_in.current(), {{&w.query_key_value.matrix, a.recurrent_in.data(), layer.padded.inputs}});
    unpack_inputs(layer, w.shape);
  }
  beta_and_decay(layer, w);
  convolve(layer, w.convolution, w.shape.convolution_tokens, true);
  const std::size_t heads = layer.shape.recurrent.heads;
  pool.run_in_shares(parts.size() * heads, [&](std::size_t task, unsigned worker) {
    for (const StepRun& run : runs_of(parts[task / heads])) delta_head(layer, w, task % heads, run, worker);
  });
  recurrent_output(layer, w.output.matrix);
}

/// Packed rows have q, k, v and z of a key head and its value heads, then those of the next key head. The
/// convolution has all queries, then all keys, then all values.
void Engine::Impl::unpack_inputs(const Layer& layer, const format::GatedDeltaNet& net) {
  const HeadPlaces places(net);
  const std::size_t values = places.group * places.value_dim;
  for_each_row([&](std::size_t r, unsigned) {
    const float* from = &activations.recurrent_in[r * layer.padded.inputs];
    float* const channels = &activations.channels[r * layer.padded.channels];
    const auto take = [&](std::size_t count, float* to) {
      std::memcpy(to, from, count * sizeof(float));
      from += count;
    };
    for (std::size_t head = 0; head < layer.shape.recurrent.heads; head += places.group) {
      take(places.key_dim, channels + places.query(head));
      take(places.key_dim, channels + places.key(head));
      take(values, channels + places.value(head));
      take(values, &activations.gate[r * layer.padded.result + head * places.value_dim]);
    }
    std::fill(channels + layer.shape.recurrent.channels, channels + layer.padded.channels, 0.0f);
  });
}

// In f32 from rows that are not quantized, as a router is: both decide what the state keeps for all tokens
// that follow. A task is a block of rows for a block of outputs, so that a single row is shared out, too.
void Engine::Impl::beta_and_decay(const Layer& layer, const DeltaNetWeights& w) {
  constexpr std::size_t kRows = 16;
  const std::size_t heads = layer.shape.recurrent.heads;
  const std::size_t half = lanes(heads);  // of a row of beta_decay
  const std::size_t blocks = 2 * half / kLanes;
  pool.run_in_shares(base::divide_up(rows.size(), kRows) * blocks, [&](std::size_t task, unsigned) {
    const bool decays = task % blocks >= blocks / 2;
    const std::size_t first = task % (blocks / 2) * kLanes;
    const std::size_t count = std::min(kLanes, heads - first);
    const std::size_t row = task / blocks * kRows;
    const std::size_t row_count = std::min(kRows, rows.size() - row);
    float* const out = &activations.beta_decay[row * 2 * half + (decays ? half : 0) + first];
    kernels.dots(&activations.normed[row * dim], dim, row_count,
                 &w.beta_decay[((decays ? heads : 0) + first) * dim], dim, count, dim, out, 2 * half);
    for (std::size_t r = 0; r < row_count; ++r) {
      float* const values = out + r * 2 * half;
      if (!decays) {
        kernels.sigmoid(values, kLanes);
        continue;
      }
      for (std::size_t i = 0; i < count; ++i) {
        const auto x = static_cast<double>(values[i] + w.time_bias[first + i]);
        values[i] =
            static_cast<float>(exponential(static_cast<double>(w.decay_rate[first + i]) * softplus(x)));
      }
    }
  });
}

void Engine::Impl::delta_head(const Layer& layer, const DeltaNetWeights& w, std::size_t head,
                              const StepRun& run, unsigned worker) {
  const HeadPlaces places(w.shape);
  const HeadRows memory(scratch[worker].delta.data(), places);
  std::fill_n(memory.unit, places.key_stride, 1.0f);
  std::fill_n(memory.query_scale, places.key_stride, 1.0f / std::sqrt(static_cast<float>(places.key_dim)));
  const std::size_t half = lanes(layer.shape.recurrent.heads);
  const RecurrentPool::Layer& place = recurrent_pool.layer(layer.index);
  const std::size_t matrix = place.matrices + head * place.matrix_stride;
  const float* from = run.from + matrix;
  float* const to = run.to + matrix;
  std::array<float, kDeltaTokens> betas;
  std::array<float, kDeltaTokens> decays;
  const auto unit_length = [&](const float* x, const float* scale, float* out) {
    // The mean over one element is the sum, so the norm divides by the length.
    copy_padded(x, places.key_dim, places.key_stride, out);
    kernels.rms_norm(out, scale, kLengthEpsilon, 1, places.key_stride, out);
  };
  for (std::size_t done = 0; done < run.row_count; done += kDeltaTokens) {
    const std::size_t count = std::min(kDeltaTokens, run.row_count - done);
    const std::size_t first_row = run.first_row + done;
    for (std::size_t t = 0; t < count; ++t) {
      const float* const row = &activations.convolved[(first_row + t) * layer.padded.channels];
      unit_length(row + places.query(head), memory.query_scale, memory.queries + t * places.key_stride);
      unit_length(row + places.key(head), memory.unit, memory.keys + t * places.key_stride);
      copy_padded(row + places.value(head), places.value_dim, places.value_stride,
                  memory.values + t * places.value_stride);
      betas[t] = activations.beta_decay[(first_row + t) * 2 * half + head];
      decays[t] = activations.beta_decay[(first_row + t) * 2 * half + half + head];
    }
    kernels.delta_rule({memory.queries, memory.keys, memory.values, decays.data(), betas.data(), count,
                        places.key_dim, places.key_stride, places.value_stride},
                       from, to, memory.results);
    from = to;
    for (std::size_t t = 0; t < count; ++t) {
      const std::size_t column = (first_row + t) * layer.padded.result + head * places.value_dim;
      float* const result = memory.results + t * places.value_stride;
      kernels.rms_norm(result, w.norm.data(), static_cast<float>(shape.norm_epsilon), places.value_dim,
                       places.value_stride, result);
      copy_padded(&activations.gate[column], places.value_dim, places.value_stride, memory.gate);
      kernels.activate({ActivationKind::silu, 0, 0}, memory.gate, result, places.value_stride, result);
      std::memcpy(&activations.result[column], result, places.value_dim * sizeof(float));
    }
  }
}

}  // namespace sluice::runtime
