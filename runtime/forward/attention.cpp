// Grouped-query attention: q, k, v = W norm(x); rotate q and k; softmax(q k / sqrt(head_dim)) v; x += Wo.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "runtime/forward/session_impl.h"

namespace sluice::runtime {

void Session::Impl::attention(std::size_t layer) {
  const LayerWeights& w = weights.layers[layer];
  weights.prove(std::array{w.wq.part, w.wk.part, w.wv.part, w.wo.part}, pool);
  const Operand in = attention_in.reset(w.wq.matrix.layout.type, tokens_now, dim, kAttentionChunk);
  normalize(w.attention_norm.data(), in);
  project_heads(layer, in);
  rotate_and_store(layer);
  attend(layer);

  const Operand out = attention_out.reset(w.wo.matrix.layout.type, tokens_now, query_width, kAttentionChunk);
  for_each_token(
      [&](std::size_t t, unsigned) { out.fill(kernels, t, 0, query_width, &mixed[t * query_width]); });
  product(w.wo.matrix, out, update.data(), dim);
  for_each_token([&](std::size_t t, unsigned) { kernels.add(&update[t * dim], dim, &x[t * dim]); });
}

// One region for the three matrices: each is small, and they read the same rows.
void Session::Impl::project_heads(std::size_t layer, const Operand& in) {
  const LayerWeights& w = weights.layers[layer];
  struct Part {
    const Matrix* matrix;
    float* out;
    std::size_t stride;
  };
  const std::array parts = {Part{&w.wq.matrix, q.data(), query_width},
                            Part{&w.wk.matrix, k.data(), key_width}, Part{&w.wv.matrix, v.data(), key_width}};
  std::size_t panels_total = 0;
  for (const Part& part : parts) panels_total += part.matrix->layout.panels;
  const std::size_t slice = slice_panels(panels_total, pool.thread_count());

  std::size_t task_count = 0;
  for (const Part& part : parts) task_count += base::divide_up(part.matrix->layout.panels, slice);
  pool.run_in_shares(task_count, [&](std::size_t task, unsigned) {
    for (const Part& part : parts) {
      const std::size_t panels = part.matrix->layout.panels;
      const std::size_t tasks = base::divide_up(panels, slice);
      if (task < tasks) {
        const std::size_t first = task * slice;
        multiply(kernels, *part.matrix, in, first, std::min(slice, panels - first),
                 part.out + first * format::kPanelRows, part.stride);
        return;
      }
      task -= tasks;
    }
  });
}

void Session::Impl::rotate_and_store(std::size_t layer) {
  const std::size_t head_dim = params.head_dim;
  for_each_token([&](std::size_t t, unsigned worker) {
    const float* c = &cosines[t * head_dim / 2];
    const float* s = &sines[t * head_dim / 2];
    for (std::size_t head = 0; head < params.n_heads; ++head)
      Rope::rotate(c, s, head_dim, &q[t * query_width + head * head_dim]);

    // A head's row, padded with zeros to whole lanes.
    float* key = scratch[worker].head.data();
    float* value = key + cache.stride();
    std::memset(key, 0, 2 * cache.stride() * sizeof(float));
    for (std::size_t head = 0; head < params.n_kv_heads; ++head) {
      std::memcpy(key, &k[t * key_width + head * head_dim], head_dim * sizeof(float));
      std::memcpy(value, &v[t * key_width + head * head_dim], head_dim * sizeof(float));
      Rope::rotate(c, s, head_dim, key);
      cache.write(kernels, layer, head, position + t, key, value);
    }
  });
}

// A task is some query heads of a token that share a key/value head: they read it together.
void Session::Impl::attend(std::size_t layer) {
  const std::size_t head_dim = params.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const std::size_t group = params.n_heads / params.n_kv_heads;
  const std::size_t parts = base::divide_up(group, kAttentionQueries);
  const std::size_t stride = cache.stride();
  pool.run_in_shares(params.n_kv_heads * parts * tokens_now, [&](std::size_t task, unsigned worker) {
    // Neighbouring tasks share keys and values.
    const std::size_t t = task % tokens_now;
    const std::size_t part = task / tokens_now % parts;
    const std::size_t kv_head = task / tokens_now / parts;
    const std::size_t count = std::min(kAttentionQueries, group - part * kAttentionQueries);
    const std::size_t first_head = kv_head * group + part * kAttentionQueries;
    const std::size_t first_column = t * query_width + first_head * head_dim;
    float* queries = scratch[worker].head.data();
    float* results = queries + count * stride;
    std::memset(queries, 0, count * stride * sizeof(float));
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t d = 0; d < head_dim; ++d)
        queries[i * stride + d] = q[first_column + i * head_dim + d] * scale;

    const std::size_t end = position + t + 1;
    const std::size_t window = params.sliding_window.value_or(end);
    kernels.attend(queries, count, cache.view(layer, kv_head), end > window ? end - window : 0, end, results);
    for (std::size_t i = 0; i < count; ++i)
      std::memcpy(&mixed[first_column + i * head_dim], results + i * stride, head_dim * sizeof(float));
  });
}

}  // namespace sluice::runtime
