// Multi-head latent attention (arXiv 2405.04434 section 2.1), always in its absorbed form: keys and values of
// the heads are never made. Per token one latent vector and one rotary key are kept, which all heads read.
//
//   q (plain, rotary parts of each head) = W_q x, or W_qb norm(W_qa x)      latent, rotary key = W_kv x
//   absorbed query of a head = W_k^T q_plain                                in the space of the latents
//   score = (absorbed . norm(latent) + q_rotary . rotary key) x scale
//   result of a head = W_v (sum of softmax(score) x norm(latent))
//
// Prompts and single tokens take this one way, so that a row has the same bits in both
// (docs/decisions/0039-latent-attention-absorbed.md). The engine's thread calls mix(); in each region of the
// pool a worker writes the rows, heads or columns of its tasks. No sum runs over rows or heads.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {
namespace {

std::size_t padded_to_tiles(std::uint64_t width) {
  return static_cast<std::size_t>(base::align_up(width, format::kTileCols));
}

float score_scale(const format::LatentAttention& attention) {
  if (attention.scale) return static_cast<float>(*attention.scale);
  return 1.0f / std::sqrt(static_cast<float>(attention.plain_dims + attention.rope.rotary_dims));
}

}  // namespace

LatentWidths::LatentWidths(const format::LatentAttention& attention)
    : query_latent(padded_to_tiles(attention.query_rank.value_or(0))),
      query(padded_to_tiles(attention.heads * (attention.plain_dims + attention.rope.rotary_dims))),
      key(padded_to_tiles(attention.latent_rank + attention.rope.rotary_dims)),
      plain(padded_to_tiles(attention.plain_dims)),
      latent(padded_to_tiles(attention.latent_rank)),
      absorbed(base::align_up(attention.latent_rank, kLanes) +
               base::align_up(attention.rope.rotary_dims, kLanes)),
      result(padded_to_tiles(attention.heads * attention.value_dims)),
      heads(attention.heads) {}

void Engine::Impl::reserve_mixer(const LatentWeights& w, const PaddedWidths& widths, std::size_t row_count) {
  Activations& a = activations;
  const LatentWidths& of_row = widths.latent;
  a.query.reserve(row_count * of_row.query);
  a.key.reserve(row_count * of_row.key);
  a.query_latent.reserve(row_count * of_row.query_latent);
  a.absorbed.reserve(row_count * of_row.heads * of_row.absorbed);
  a.heads.reserve(row_count * of_row.result);
  if (w.query_latent)
    a.query_latent_in.reset(w.query.matrix.layout.type, row_count, of_row.query_latent, kAttentionChunk);
  a.plain_in.reset(w.keys.heads.front().layout.type, row_count * of_row.heads, of_row.plain, kAttentionChunk);
  a.latent_in.reset(w.key_value.matrix.layout.type, row_count * of_row.heads, of_row.latent, kAttentionChunk);
  a.attention_out.reset(w.output.matrix.layout.type, row_count, of_row.result, kAttentionChunk);
  for (Scratch& s : scratch)
    s.head.reserve(std::max(kLatentQueries * of_row.latent, of_row.absorbed + of_row.plain));
}

void Engine::Impl::mix(const Layer& layer, const LatentWeights& w) {
  Activations& a = activations;
  const LatentWidths& widths = layer.padded.latent;
  project_latents(layer, w);
  a.plain_in.reset(w.keys.heads.front().layout.type, rows.size() * widths.heads, widths.plain,
                   kAttentionChunk);
  a.latent_in.reset(w.key_value.matrix.layout.type, rows.size() * widths.heads, widths.latent,
                    kAttentionChunk);
  // Each of these calls is a barrier: attend_latents() reads latents that other workers have stored.
  for_each_row([&](std::size_t r, unsigned worker) {
    store_latent(layer, w, r, worker);
    finish_latent_queries(layer, w, r, worker);
  });
  attend_latents(layer, w);

  const Matrix& output = w.output.matrix;
  const InputRows results =
      a.attention_out.reset(output.layout.type, rows.size(), widths.result, kAttentionChunk);
  const format::LatentAttention& attention = layer.shape.latent_attention();
  const std::size_t used = attention.heads * attention.value_dims;
  for_each_row([&](std::size_t r, unsigned) {
    float* const row = &a.heads[r * widths.result];
    std::fill(row + used, row + widths.result, 0.0f);  // another layer may have wider rows
    results.fill(kernels, r, 0, widths.result, row);
  });
  products(results, {{&output, a.block_out.data(), dim}});
}

/// Queries, and latents with their rotary keys, before norm and rotation.
void Engine::Impl::project_latents(const Layer& layer, const LatentWeights& w) {
  Activations& a = activations;
  const LatentWidths& widths = layer.padded.latent;
  const Product latents{&w.latent.matrix, a.key.data(), widths.key};
  if (!w.query_latent)
    return products(a.mixer_in.current(), {{&w.query.matrix, a.query.data(), widths.query}, latents});

  products(a.mixer_in.current(),
           {{&w.query_latent->matrix, a.query_latent.data(), widths.query_latent}, latents});
  const InputRows in =
      a.query_latent_in.reset(w.query.matrix.layout.type, rows.size(), widths.query_latent, kAttentionChunk);
  for_each_row([&](std::size_t r, unsigned) {
    float* const row = &a.query_latent[r * widths.query_latent];
    kernels.rms_norm(row, w.query_latent_norm.data(), latent_norm_epsilon(layer),
                     *layer.shape.latent_attention().query_rank, widths.query_latent, row);
    in.fill(kernels, r, 0, widths.query_latent, row);
  });
  products(in, {{&w.query.matrix, a.query.data(), widths.query}});
}

float Engine::Impl::latent_norm_epsilon(const Layer& layer) const {
  return static_cast<float>(layer.shape.latent_attention().latent_norm_epsilon.value_or(shape.norm_epsilon));
}

/// Normalizes the row's latent, rotates its key, and puts both into the cache.
void Engine::Impl::store_latent(const Layer& layer, const LatentWeights& w, std::size_t row,
                                unsigned worker) {
  const format::LatentAttention& attention = layer.shape.latent_attention();
  const std::size_t columns = kv_pool.head(layer.index, 0).stride;
  const float* const made = &activations.key[row * layer.padded.latent.key];
  float* const latent = scratch[worker].head.data();
  float* const key = latent + columns;
  std::fill_n(latent, layer.padded.latent.absorbed, 0.0f);
  std::memcpy(latent, made, attention.latent_rank * sizeof(float));
  std::memcpy(key, made + attention.latent_rank, attention.rope.rotary_dims * sizeof(float));
  kernels.rms_norm(latent, w.latent_norm.data(), latent_norm_epsilon(layer), attention.latent_rank, columns,
                   latent);
  rotate(layer, row, key);
  rows[row].sequence->cache.write(kernels, layer.index, 0, rows[row].position, latent, key);
}

void Engine::Impl::rotate(const Layer& layer, std::size_t row, float* head) {
  const RopeAngles& angles = ropes[*layer.shape.rope];
  const std::size_t first = row * angles.rope.pairs();
  angles.rope.rotate(&angles.cosines[first], &angles.sines[first], head);
}

/// Scales the row's queries, rotates their rotary parts, and makes their plain parts the inputs of the keys.
void Engine::Impl::finish_latent_queries(const Layer& layer, const LatentWeights& w, std::size_t row,
                                         unsigned worker) {
  const format::LatentAttention& attention = layer.shape.latent_attention();
  const LatentWidths& widths = layer.padded.latent;
  const std::size_t plain_dims = attention.plain_dims;
  const std::size_t rotary_dims = attention.rope.rotary_dims;
  const float scale =
      score_scale(attention) * query_temperature(attention.query_temperature, rows[row].position);
  float* const plain = scratch[worker].head.data();
  std::fill_n(plain, widths.plain, 0.0f);
  for (std::size_t h = 0; h < attention.heads; ++h) {
    float* const query = &activations.query[row * widths.query + h * (plain_dims + rotary_dims)];
    rotate(layer, row, query + plain_dims);
    for (std::size_t i = 0; i < rotary_dims; ++i) query[plain_dims + i] *= scale;
    const float* const of_inputs = &w.keys.input_scales[h * widths.plain];
    for (std::size_t i = 0; i < plain_dims; ++i) plain[i] = query[i] * scale * of_inputs[i];
    head_rows(activations.plain_in, w.keys.heads[h], h).fill(kernels, row, 0, widths.plain, plain);
  }
}

/// The rows of one head in a buffer that has all rows of a head side by side, for `matrix`.
InputRows Engine::Impl::head_rows(InputRowsBuffer& buffer, const Matrix& matrix, std::size_t head) const {
  return buffer.rows(matrix.layout.type, head * rows.size(), rows.size());
}

// Heads do not depend on one another. Few rows, as in decoding, leave workers little to do between barriers,
// so a worker takes its heads through all steps at once. With many rows each step shares out its work by
// itself.
void Engine::Impl::attend_latents(const Layer& layer, const LatentWeights& w) {
  const LatentWidths& widths = layer.padded.latent;
  const std::size_t together = heads_together(widths.heads);
  const std::size_t blocks = base::divide_up(widths.heads, together);
  const auto count_from = [&](std::size_t first) { return std::min(together, widths.heads - first); };
  const std::size_t absorbing = base::divide_up(widths.latent / format::kPanelRows, kSlicePanels);
  const std::size_t expanding = base::divide_up(value_panels(layer), kSlicePanels);
  if (rows.size() == 1) {
    return pool.run(blocks, [&](std::size_t block, unsigned worker) {
      const std::size_t first = block * together;
      const std::size_t end = first + count_from(first);
      for (std::size_t h = first; h < end; ++h)
        for (std::size_t slice = 0; slice < absorbing; ++slice) absorb_key(layer, w, h, slice, worker);
      attend_heads(layer, w, 0, first, end - first, worker);
      for (std::size_t h = first; h < end; ++h)
        for (std::size_t slice = 0; slice < expanding; ++slice) expand_value(layer, w, h, slice, worker);
    });
  }
  pool.run_in_shares(widths.heads * absorbing, [&](std::size_t task, unsigned worker) {
    absorb_key(layer, w, task / absorbing, task % absorbing, worker);
  });
  pool.run_in_shares(blocks * rows.size(), [&](std::size_t task, unsigned worker) {
    const std::size_t first = task / rows.size() * together;
    attend_heads(layer, w, task % rows.size(), first, count_from(first), worker);
  });
  pool.run_in_shares(widths.heads * expanding, [&](std::size_t task, unsigned worker) {
    expand_value(layer, w, task / expanding, task % expanding, worker);
  });
}

/// How many heads of a row read the latents together: as many as share a load from memory, but so few that
/// all workers have some.
std::size_t Engine::Impl::heads_together(std::size_t heads) const {
  const std::size_t of_worker = base::divide_up(rows.size() * heads, pool.thread_count());
  if (of_worker < kAttentionQueries) return std::max<std::size_t>(of_worker, 1);  // a step may have no rows
  return std::min<std::size_t>(base::align_up(of_worker, kAttentionQueries), kLatentQueries);
}

/// absorbed = [W_k^T q_plain, q_rotary] of all rows, for one head and a slice of the latent's columns.
void Engine::Impl::absorb_key(const Layer& layer, const LatentWeights& w, std::size_t head, std::size_t slice,
                              unsigned worker) {
  const format::LatentAttention& attention = layer.shape.latent_attention();
  const LatentWidths& widths = layer.padded.latent;
  const std::size_t columns = kv_pool.head(layer.index, 0).stride;
  const std::size_t first_panel = slice * kSlicePanels;
  const std::size_t panels = std::min(kSlicePanels, widths.latent / format::kPanelRows - first_panel);
  const std::size_t first = first_panel * format::kPanelRows;
  const std::size_t width = panels * format::kPanelRows;
  float* const out = scratch[worker].gate.data();
  multiply_slice(w.keys.heads[head], head_rows(activations.plain_in, w.keys.heads[head], head), first_panel,
                 panels, out, width, worker);
  const std::size_t used = std::min(width, columns - first);
  const std::size_t rotary_dims = attention.rope.rotary_dims;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    float* const absorbed = &activations.absorbed[(r * widths.heads + head) * widths.absorbed];
    std::memcpy(absorbed + first, out + r * width, used * sizeof(float));
    if (first > 0) continue;
    const float* const query =
        &activations.query[r * widths.query + head * (attention.plain_dims + rotary_dims)];
    std::fill(absorbed + columns, absorbed + widths.absorbed, 0.0f);
    std::memcpy(absorbed + columns, query + attention.plain_dims, rotary_dims * sizeof(float));
  }
}

/// The weighted latents of some heads of a row, as inputs of the values.
void Engine::Impl::attend_heads(const Layer& layer, const LatentWeights& w, std::size_t row,
                                std::size_t first, std::size_t count, unsigned worker) {
  const LatentWidths& widths = layer.padded.latent;
  const std::size_t rank = layer.shape.latent_attention().latent_rank;
  float* const out = scratch[worker].head.data();
  kernels.attend_latents(&activations.absorbed[(row * widths.heads + first) * widths.absorbed], count,
                         rows[row].sequence->cache.view(layer.index, 0), rows[row].position + 1, out,
                         widths.latent);
  for (std::size_t i = 0; i < count; ++i) {
    float* const latent = out + i * widths.latent;
    std::fill(latent + rank, latent + widths.latent, 0.0f);
    head_rows(activations.latent_in, w.key_value.matrix, first + i)
        .fill(kernels, row, 0, widths.latent, latent);
  }
}

/// The most panels that hold the values of one head, wherever its rows begin.
std::size_t Engine::Impl::value_panels(const Layer& layer) {
  return (layer.shape.latent_attention().value_dims + format::kPanelRows - 2) / format::kPanelRows + 1;
}

/// W_v times the weighted latents of all rows, for one head and a slice of its panels. The rows of W_v lie
/// between those of the keys and need not begin with a panel, so panels are multiplied whole, and the columns
/// of the head taken.
void Engine::Impl::expand_value(const Layer& layer, const LatentWeights& w, std::size_t head,
                                std::size_t slice, unsigned worker) {
  const format::LatentAttention& attention = layer.shape.latent_attention();
  const std::size_t value_dims = attention.value_dims;
  const std::size_t begin = head * (attention.plain_dims + value_dims) + attention.plain_dims;
  const std::size_t end = begin + value_dims;  // rows of the matrix
  const std::size_t first_panel = begin / format::kPanelRows + slice * kSlicePanels;
  const std::size_t end_panel =
      std::min(first_panel + kSlicePanels, base::divide_up(end, format::kPanelRows));
  if (first_panel >= end_panel) return;
  const std::size_t width = (end_panel - first_panel) * format::kPanelRows;
  float* const out = scratch[worker].gate.data();
  multiply_slice(w.key_value.matrix, head_rows(activations.latent_in, w.key_value.matrix, head), first_panel,
                 end_panel - first_panel, out, width, worker);
  const std::size_t first_row = std::max(begin, first_panel * format::kPanelRows);
  const std::size_t end_row = std::min(end, end_panel * format::kPanelRows);
  for (std::size_t r = 0; r < rows.size(); ++r)
    std::memcpy(&activations.heads[r * layer.padded.latent.result + head * value_dims + (first_row - begin)],
                out + r * width + (first_row - first_panel * format::kPanelRows),
                (end_row - first_row) * sizeof(float));
}

}  // namespace sluice::runtime
