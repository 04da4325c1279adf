#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "format/tensor.h"
#include "runtime/forward/session_impl.h"
#include "runtime/kernels/isa.h"

namespace sluice::runtime {
namespace {

std::size_t padded(std::uint64_t width) {
  return static_cast<std::size_t>(base::align_up(width, format::kTileCols));
}

KvType default_kv(const Model& model) { return model.quant() == "bf16" ? KvType::f32 : KvType::bf16; }

}  // namespace

Session::Impl::Impl(const Model& model_in, SessionOptions options_in)
    : model(model_in),
      weights(model_in.impl()),
      params(weights.params),
      options(std::move(options_in)),
      kernels(kernels_for(options.isa.value_or(detect_isa()))),
      pool(options.thread_count, base::WorkerPool::Placement::a_core_each),
      cache(params,
            {.context_tokens = options.context_tokens,
             .chunk_tokens = options.prefill_chunk_tokens,
             .keep_positions = options.keep_positions},
            options.kv.value_or(default_kv(model_in))),
      rope(params.head_dim, params.rope_theta),
      dim(padded(params.dim)),
      query_width(padded(params.n_heads * params.head_dim)),
      key_width(padded(params.n_kv_heads * params.head_dim)),
      hidden(padded(params.hidden_dim)),
      vocab(padded(params.vocab_size)),
      scratch(options.thread_count) {
  reserve();
  decide_residency();
}

// All that a chunk of tokens may need, so that feed() allocates nothing where the model is mapped.
void Session::Impl::reserve() {
  const std::size_t rows = std::min(options.prefill_chunk_tokens, options.context_tokens);
  x.reserve(rows * dim);
  normed.reserve(rows * dim);
  q.reserve(rows * query_width);
  k.reserve(rows * key_width);
  v.reserve(rows * key_width);
  mixed.reserve(rows * query_width);
  update.reserve(rows * dim);
  cosines.reserve(rows * params.head_dim / 2);
  sines.reserve(rows * params.head_dim / 2);
  logits.reserve(vocab);
  const std::size_t slots = rows * params.num_experts_per_tok;
  routing.experts.reserve(slots);
  routing.weights.reserve(slots);
  routing.margins.reserve(options.on_routing ? rows : 0);
  routing.slots.reserve(slots);
  routing.first_slot.resize(params.num_experts + 1);
  routing.used.reserve(params.num_experts);
  for (const LayerWeights& w : weights.layers) {
    attention_in.reset(w.wq.matrix.layout.type, rows, dim, kAttentionChunk);
    attention_out.reset(w.wo.matrix.layout.type, rows, query_width, kAttentionChunk);
    for (const ExpertWeights& expert : w.experts) {
      mixture_in.reset(expert.w1.matrix.layout.type, rows, dim, format::kActivationChunk);
      expert_in.reset(expert.w1.matrix.layout.type, slots, dim, format::kActivationChunk);
      expert_hidden.reset(expert.w2.matrix.layout.type, slots, hidden, format::kActivationChunkDown);
    }
  }
  head_in.reset(weights.head.matrix.layout.type, 1, dim, kAttentionChunk);
  for (Scratch& s : scratch) {
    s.head.reserve(2 * kAttentionQueries * cache.stride());
    s.gate.reserve(rows * kSlicePanels * format::kPanelRows);
    s.up.reserve(rows * kSlicePanels * format::kPanelRows);
    s.router.reserve(params.num_experts);
    s.chosen.reserve(base::align_up(params.num_experts_per_tok, kLanes));
  }
}

void Session::Impl::decide_residency() {
  // Keys and values get their memory when they are first written; all else has its own already.
  const auto cache_bytes = KvCache::size_bytes(params, cache.capacity(), cache.type());
  const MemoryNeeds needs = memory_needs(weights, cache_bytes.value() + options.reserved_bytes);
  const auto plan = plan_residency(needs, memory_left(options.memory_bytes));
  if (plan.expert_slots == 0 || (!options.memory_bytes && is_cached(weights))) return;
  pinned_weights = std::make_unique<PinnedWeights>(weights);
  stream = std::make_unique<ExpertCache>(weights, plan.expert_slots);
}

// The forward pass of a pre-norm mixture-of-experts transformer (arXiv 2401.04088):
//   h = x + attention(norm(x));  x = h + mixture(norm(h))
void Session::Impl::forward(std::span<const TokenId> tokens) {
  begin(tokens);
  if (stream) stream->begin_pass();
  for (std::size_t layer = 0; layer < params.n_layers; ++layer) run_layer(layer, tokens);
  position += tokens.size();
}

void Session::Impl::begin(std::span<const TokenId> tokens) {
  tokens_now = tokens.size();
  embed(tokens);
}

void Session::Impl::run_layer(std::size_t layer, std::span<const TokenId> tokens) {
  if (options.stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
  tokens_now = tokens.size();
  timed(part_seconds.attention, [&] { attention(layer); });
  mixture(layer, tokens);
  weights.container.require_whole();
}

void Session::Impl::embed(std::span<const TokenId> tokens) {
  weights.prove(std::span(&weights.embedding_part, 1), pool);
  for_each_token([&](std::size_t t, unsigned) {
    const std::uint16_t* row = weights.embedding + static_cast<std::size_t>(tokens[t]) * params.dim;
    for (std::size_t i = 0; i < params.dim; ++i) x[t * dim + i] = format::bf16_to_f32(row[i]);
    rope.angles(position + t, &cosines[t * params.head_dim / 2], &sines[t * params.head_dim / 2]);
  });
}

void Session::Impl::normalize(const float* weight, const Operand& operand) {
  for_each_token([&](std::size_t t, unsigned) {
    kernels.rms_norm(&x[t * dim], weight, static_cast<float>(params.norm_eps), params.dim, dim,
                     &normed[t * dim]);
    operand.fill(kernels, t, 0, dim, &normed[t * dim]);
  });
}

void Session::Impl::product(const Matrix& matrix, const Operand& operand, float* out,
                            std::size_t out_stride) {
  const std::size_t slice = slice_panels(matrix.layout.panels, pool.thread_count());
  pool.run_in_shares(base::divide_up(matrix.layout.panels, slice), [&](std::size_t task, unsigned) {
    const std::size_t first = task * slice;
    const std::size_t panels = std::min<std::size_t>(slice, matrix.layout.panels - first);
    multiply(kernels, matrix, operand, first, panels, out + first * format::kPanelRows, out_stride);
  });
}

void Session::Impl::head(std::size_t first, std::size_t count) {
  weights.prove(std::span(&weights.head.part, 1), pool);
  const Matrix& matrix = weights.head.matrix;
  logits.reserve(count * vocab);
  const Operand in = head_in.reset(matrix.layout.type, count, dim, kAttentionChunk);
  for (std::size_t row = 0; row < count; ++row) {
    float* out = &normed[row * dim];
    kernels.rms_norm(&x[(first + row) * dim], weights.final_norm.data(), static_cast<float>(params.norm_eps),
                     params.dim, dim, out);
    in.fill(kernels, row, 0, dim, out);
  }
  timed(part_seconds.head, [&] { product(matrix, in, logits.data(), vocab); });
  weights.container.require_whole();
  for (std::size_t row = 0; row < count; ++row) {
    const std::span values(&logits[row * vocab], static_cast<std::size_t>(params.vocab_size));
    if (!std::ranges::all_of(values, [](float logit) { return std::isfinite(logit); })) {
      throw base::Error(base::ErrorKind::malformed,
                        weights.container.path().string() + ": the logits at position " +
                            std::to_string(position - tokens_now + first + row) + " are not finite");
    }
  }
}

Session::Session(const Model& model, SessionOptions options)
    : impl_(std::make_unique<Impl>(model, std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;

namespace {

void check_tokens(const Session::Impl& s, std::span<const TokenId> tokens) {
  if (tokens.size() > s.options.context_tokens - s.position) {
    throw base::Error(base::ErrorKind::malformed, "prompt: " + std::to_string(tokens.size()) +
                                                      " tokens after " + std::to_string(s.position) +
                                                      " do not fit the context of " +
                                                      std::to_string(s.options.context_tokens));
  }
  for (const TokenId token : tokens) {
    if (token < 0 || static_cast<std::uint64_t>(token) >= s.params.vocab_size) {
      throw base::Error(base::ErrorKind::malformed, "prompt: token id " + std::to_string(token) +
                                                        " is outside the vocabulary of " +
                                                        std::to_string(s.params.vocab_size));
    }
  }
}

}  // namespace

std::span<const float> Session::feed(std::span<const TokenId> tokens) {
  INVARIANT(!tokens.empty());
  check_tokens(*impl_, tokens);
  std::size_t last = 0;
  while (!tokens.empty()) {
    const auto count = std::min<std::size_t>(tokens.size(), impl_->options.prefill_chunk_tokens);
    impl_->forward(tokens.first(count));
    tokens = tokens.subspan(count);
    last = count - 1;
  }
  impl_->head(last, 1);
  return {impl_->logits.data(), static_cast<std::size_t>(impl_->params.vocab_size)};
}

void Session::feed_all(std::span<const TokenId> tokens,
                       const std::function<void(std::size_t, std::span<const float>)>& visit) {
  check_tokens(*impl_, tokens);
  for (std::size_t done = 0; done < tokens.size();) {
    const auto count = std::min<std::size_t>(tokens.size() - done, impl_->options.prefill_chunk_tokens);
    impl_->forward(tokens.subspan(done, count));
    impl_->head(0, count);
    for (std::size_t row = 0; row < count; ++row)
      visit(done + row,
            {&impl_->logits[row * impl_->vocab], static_cast<std::size_t>(impl_->params.vocab_size)});
    done += count;
  }
}

void Session::reset() { impl_->position = 0; }
std::uint64_t Session::position() const { return impl_->position; }
PartSeconds Session::part_seconds() const { return impl_->part_seconds; }
std::uint64_t Session::context_tokens() const { return impl_->options.context_tokens; }

ResidencyStats Session::residency_stats() const {
  if (!impl_->stream) return {};
  ResidencyStats stats = impl_->stream->stats();
  stats.stall_s /= impl_->pool.thread_count();
  return stats;
}

}  // namespace sluice::runtime
