// Grouped-query attention (arXiv 2305.13245) with rotary positions: q, k, v = W x (+ bias); norm and rotate q
// and k; then, per query head, softmax(scale q k) v over the positions of the row's own sequence; then the
// output projection. Layers may do more, each by a field of format::GroupedQueryAttention: norm v, take v
// from k, cap scores, let a sink take part in the softmax, multiply the result by a gate.
//
// Keys and values of all rows of the step are stored before any row attends, so a row of a prompt finds the
// rows before it in the KV pages and needs no path of its own. A row reads positions up to its own only,
// which makes the attention causal without a mask.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {
namespace {

/// Limits values to +-limit.
void clip(float limit, std::size_t n, float* x) {
  for (std::size_t i = 0; i < n; ++i) x[i] = std::clamp(x[i], -limit, limit);
}

float score_scale(const format::GroupedQueryAttention& attention) {
  if (attention.scale) return static_cast<float>(*attention.scale);
  return 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
}

}  // namespace

void Engine::Impl::reserve_mixer(const AttentionWeights& w, const PaddedWidths& widths,
                                 std::size_t row_count) {
  Activations& a = activations;
  a.query.reserve(row_count * widths.query);
  a.output_gate.reserve(row_count * widths.gates);
  a.key.reserve(row_count * widths.key_value);
  a.value.reserve(row_count * widths.key_value);
  a.heads.reserve(row_count * widths.heads);
  a.attention_out.reset(w.output.matrix.layout.type, row_count, widths.heads, kAttentionChunk);
}

void Engine::Impl::mix(const Layer& layer, const AttentionWeights& w) {
  Activations& a = activations;
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  const Product query{&w.query.matrix, a.query.data(), layer.padded.query};
  const Product key{&w.key.matrix, a.key.data(), layer.padded.key_value};
  if (w.value) {
    products(a.mixer_in.current(), {query, key, {&w.value->matrix, a.value.data(), layer.padded.key_value}});
  } else {
    products(a.mixer_in.current(), {query, key});
  }
  // Each of these calls is a barrier: attend() reads keys that other workers have stored.
  for_each_row([&](std::size_t r, unsigned worker) {
    finish_queries(layer, w, r, worker);
    finish_keys_and_values(layer, w, r, worker);
  });
  attend(layer, w);

  const std::size_t width = layer.padded.heads;
  const Matrix& output = w.output.matrix;
  const InputRows heads = a.attention_out.reset(output.layout.type, rows.size(), width, kAttentionChunk);
  const std::size_t used = attention.heads * attention.head_dim;
  for_each_row([&](std::size_t r, unsigned) {
    float* const row = &a.heads[r * width];
    std::fill(row + used, row + width, 0.0f);  // another layer may have wider rows
    if (attention.output_gate) kernels.multiply(&a.output_gate[r * width], width, row);
    heads.fill(kernels, r, 0, width, row);
  });
  products(heads, {{&output, a.block_out.data(), dim}});
  if (attention.output_bias) {
    for_each_row(
        [&](std::size_t r, unsigned) { kernels.add(w.output_bias.data(), dim, &a.block_out[r * dim]); });
  }
}

/// Normalizes over the full width and limits, where the layer does so. The padding stays zero.
void Engine::Impl::finish_row(const Layer& layer, const Buffer<float>* norm, std::size_t true_width,
                              std::size_t width, float* row) {
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  if (norm != nullptr && attention.query_key_norm == format::QueryKeyNorm::full_width)
    kernels.rms_norm(row, norm->data(), static_cast<float>(shape.norm_epsilon), true_width, width, row);
  // No family has limits and a norm of each head; OLMoE has them behind its norm over the full width.
  if (attention.clip) clip(static_cast<float>(*attention.clip), true_width, row);
}

/// The query matrix makes query and gate of each head in turns. Moves the queries of a row together at its
/// front, as they are without gates, and makes the factors of the result of the gates.
void Engine::Impl::split_gates(const Layer& layer, std::size_t row) {
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  const std::size_t head_dim = attention.head_dim;
  const std::size_t width = layer.padded.heads;
  float* const queries = &activations.query[row * layer.padded.query];
  float* const gates = &activations.output_gate[row * width];
  for (std::size_t h = 0; h < attention.heads; ++h) {
    std::memcpy(gates + h * head_dim, queries + (2 * h + 1) * head_dim, head_dim * sizeof(float));
    // Head h moves to where heads 0 to h / 2 were, which have moved already.
    std::memmove(queries + h * head_dim, queries + 2 * h * head_dim, head_dim * sizeof(float));
  }
  const std::size_t used = attention.heads * head_dim;
  std::fill(queries + used, queries + width, 0.0f);
  std::fill(gates + used, gates + width, 0.0f);
  kernels.sigmoid(gates, width);
}

/// Normalizes and rotates a query or a key, which is padded with zeros to `stride`.
void Engine::Impl::finish_head(const Layer& layer, std::size_t row, const Buffer<float>& norm,
                               std::size_t stride, float* head) {
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  if (attention.query_key_norm == format::QueryKeyNorm::per_head)
    kernels.rms_norm(head, norm.data(), static_cast<float>(shape.norm_epsilon), attention.head_dim, stride,
                     head);
  if (!layer.shape.rope) return;
  const RopeAngles& angles = ropes[*layer.shape.rope];
  const std::size_t first = row * angles.rope.pairs();
  angles.rope.rotate(&angles.cosines[first], &angles.sines[first], head);
}

void Engine::Impl::finish_queries(const Layer& layer, const AttentionWeights& w, std::size_t row,
                                  unsigned worker) {
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  const std::size_t head_dim = attention.head_dim;
  const std::size_t stride = kv_pool.head(layer.index, 0).stride;
  const float scale =
      score_scale(attention) * query_temperature(attention.query_temperature, rows[row].position);
  float* const queries = &activations.query[row * layer.padded.query];
  if (attention.input_biases) kernels.add(w.query_bias.data(), layer.padded.query, queries);
  if (attention.output_gate) split_gates(layer, row);
  finish_row(layer, &w.query_norm, attention.heads * head_dim, layer.padded.heads, queries);
  float* const head = scratch[worker].head.data();
  std::fill_n(head, stride, 0.0f);
  for (std::size_t h = 0; h < attention.heads; ++h) {
    float* const query = queries + h * head_dim;
    std::memcpy(head, query, head_dim * sizeof(float));
    finish_head(layer, row, w.query_norm, stride, head);
    for (std::size_t d = 0; d < head_dim; ++d) query[d] = head[d] * scale;
  }
}

// Keys are stored rotated: the product of two rotated vectors depends on the distance of their positions
// alone, so a key never has to be rotated again.
void Engine::Impl::finish_keys_and_values(const Layer& layer, const AttentionWeights& w, std::size_t row,
                                          unsigned worker) {
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  const std::size_t head_dim = attention.head_dim;
  const std::size_t stride = kv_pool.head(layer.index, 0).stride;
  const std::size_t width = layer.padded.key_value;
  float* const keys = &activations.key[row * width];
  float* const values = &activations.value[row * width];
  const std::size_t true_width = attention.key_heads * head_dim;
  if (attention.input_biases) kernels.add(w.key_bias.data(), width, keys);
  if (!w.value) {
    std::memcpy(values, keys, width * sizeof(float));
  } else if (attention.input_biases) {
    kernels.add(w.value_bias.data(), width, values);
  }
  finish_row(layer, &w.key_norm, true_width, width, keys);
  finish_row(layer, nullptr, true_width, width, values);
  // One head's key and value, padded with zeros to whole lanes: the kernels have no tail, and zeros add
  // nothing to a score. Workers write different rows, so no lock is needed.
  float* const key = scratch[worker].head.data();
  float* const value = key + stride;
  std::fill_n(key, 2 * stride, 0.0f);
  for (std::size_t head = 0; head < attention.key_heads; ++head) {
    std::memcpy(key, keys + head * head_dim, head_dim * sizeof(float));
    std::memcpy(value, values + head * head_dim, head_dim * sizeof(float));
    finish_head(layer, row, w.key_norm, stride, key);
    if (attention.value_norm)
      kernels.rms_norm(value, w.value_norm.data(), static_cast<float>(shape.norm_epsilon), head_dim, stride,
                       value);
    rows[row].sequence->cache.write(kernels, layer.index, head, rows[row].position, key, value);
  }
}

// A task is up to kAttentionQueries query heads of a row that share a key/value head: they read it together.
// The row is the fastest index of a task, so a worker's neighbouring tasks are neighbouring rows, which
// mostly read the same keys and values and find them in the cache.
void Engine::Impl::attend(const Layer& layer, const AttentionWeights& w) {
  const format::GroupedQueryAttention& attention = layer.shape.attention();
  const std::size_t head_dim = attention.head_dim;
  const std::size_t group = attention.heads / attention.key_heads;  // query heads of a key/value head
  const std::size_t tasks_of_group = base::divide_up(group, kAttentionQueries);
  const std::size_t stride = kv_pool.head(layer.index, 0).stride;
  pool.run_in_shares(
      attention.key_heads * tasks_of_group * rows.size(), [&](std::size_t task, unsigned worker) {
        const std::size_t r = task % rows.size();
        const std::size_t in_group = task / rows.size() % tasks_of_group * kAttentionQueries;
        const std::size_t kv_head = task / rows.size() / tasks_of_group;
        const std::size_t count = std::min(kAttentionQueries, group - in_group);
        // Query heads are ordered by their key/value head, so those of one group are adjacent in a row.
        const std::size_t first_head = kv_head * group + in_group;
        const float* const from = &activations.query[r * layer.padded.query + first_head * head_dim];
        float* const to = &activations.heads[r * layer.padded.heads + first_head * head_dim];
        float* const queries = scratch[worker].head.data();
        float* const results = queries + count * stride;
        std::memset(queries, 0, count * stride * sizeof(float));
        for (std::size_t i = 0; i < count; ++i)
          std::memcpy(queries + i * stride, from + i * head_dim, head_dim * sizeof(float));

        // The row sees its own position and, with a sliding window, the window - 1 positions before it. first
        // = 0 while the window is not full: end - window would wrap around.
        const std::size_t end = rows[r].position + 1;
        const std::size_t window = attention.window_tokens.value_or(end);
        const ScoreRule rule{.sinks = attention.sinks ? &w.sinks[first_head] : nullptr,
                             .soft_cap = static_cast<float>(attention.soft_cap.value_or(0))};
        kernels.attend(queries, count, rows[r].sequence->cache.view(layer.index, kv_head),
                       end > window ? end - window : 0, end, rule, results);
        for (std::size_t i = 0; i < count; ++i)
          std::memcpy(to + i * head_dim, results + i * stride, head_dim * sizeof(float));
      });
}

}  // namespace sluice::runtime
