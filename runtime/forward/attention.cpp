// Grouped-query attention (arXiv 2305.13245) with rotary positions: q, k, v = W x; rotate q and k; then, per
// query head, softmax(q k / sqrt(head_dim)) v over the positions of the row's own sequence; then the output
// projection.
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

void Engine::Impl::attention(const LayerWeights& w, std::size_t layer) {
  Activations& a = activations;
  products(a.attention_in.current(), {{&w.query.matrix, a.query.data(), padded.query},
                                      {&w.key.matrix, a.key.data(), padded.key_value},
                                      {&w.value.matrix, a.value.data(), padded.key_value}});
  rotate_and_store(layer);
  // Each of these calls is a barrier: attend() reads keys that other workers have written in
  // rotate_and_store().
  attend(layer);

  const Matrix& output = w.attention_output.matrix;
  const InputRows heads =
      a.attention_out.reset(output.layout.type, rows.size(), padded.query, kAttentionChunk);
  for_each_row(
      [&](std::size_t r, unsigned) { heads.fill(kernels, r, 0, padded.query, &a.heads[r * padded.query]); });
  products(heads, {{&output, a.block_out.data(), padded.dim}});
}

void Engine::Impl::rotate_and_store(std::size_t layer) {
  Activations& a = activations;
  const std::size_t head_dim = shape.head_dim;
  const std::size_t stride = kv_pool.stride();
  for_each_row([&](std::size_t r, unsigned worker) {
    const float* const cosines = &a.cosines[r * head_dim / 2];
    const float* const sines = &a.sines[r * head_dim / 2];
    // Keys are stored rotated: the product of two rotated vectors depends on the distance of their positions
    // alone, so a key never has to be rotated again.
    for (std::size_t head = 0; head < shape.heads; ++head)
      Rope::rotate(cosines, sines, head_dim, &a.query[r * padded.query + head * head_dim]);

    // One head's key and value, padded with zeros to whole lanes: the kernels have no tail, and zeros add
    // nothing to a score. Workers write different rows, so no lock is needed.
    float* const key = scratch[worker].head.data();
    float* const value = key + stride;
    std::memset(key, 0, 2 * stride * sizeof(float));
    for (std::size_t head = 0; head < shape.key_heads; ++head) {
      std::memcpy(key, &a.key[r * padded.key_value + head * head_dim], head_dim * sizeof(float));
      std::memcpy(value, &a.value[r * padded.key_value + head * head_dim], head_dim * sizeof(float));
      Rope::rotate(cosines, sines, head_dim, key);
      rows[r].sequence->cache.write(kernels, layer, head, rows[r].position, key, value);
    }
  });
}

// A task is up to kAttentionQueries query heads of a row that share a key/value head: they read it together.
// The row is the fastest index of a task, so a worker's neighbouring tasks are neighbouring rows, which
// mostly read the same keys and values and find them in the cache.
void Engine::Impl::attend(std::size_t layer) {
  const std::size_t head_dim = shape.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const std::size_t group = shape.heads / shape.key_heads;  // query heads of a key/value head
  const std::size_t tasks_of_group = base::divide_up(group, kAttentionQueries);
  const std::size_t stride = kv_pool.stride();
  pool.run_in_shares(shape.key_heads * tasks_of_group * rows.size(), [&](std::size_t task, unsigned worker) {
    const std::size_t r = task % rows.size();
    const std::size_t in_group = task / rows.size() % tasks_of_group * kAttentionQueries;
    const std::size_t kv_head = task / rows.size() / tasks_of_group;
    const std::size_t count = std::min(kAttentionQueries, group - in_group);
    // Query heads are ordered by their key/value head, so those of one group are adjacent in a row.
    const std::size_t first_column = r * padded.query + (kv_head * group + in_group) * head_dim;
    float* const queries = scratch[worker].head.data();
    float* const results = queries + count * stride;
    std::memset(queries, 0, count * stride * sizeof(float));
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t d = 0; d < head_dim; ++d)
        queries[i * stride + d] = activations.query[first_column + i * head_dim + d] * scale;

    // The row sees its own position and, with a sliding window, the window - 1 positions before it. first
    // = 0 while the window is not full: end - window would wrap around.
    const std::size_t end = rows[r].position + 1;
    const std::size_t window = shape.window_tokens.value_or(end);
    kernels.attend(queries, count, rows[r].sequence->cache.view(layer, kv_head),
                   end > window ? end - window : 0, end, results);
    for (std::size_t i = 0; i < count; ++i)
      std::memcpy(&activations.heads[first_column + i * head_dim], results + i * stride,
                  head_dim * sizeof(float));
  });
}

}  // namespace sluice::runtime
