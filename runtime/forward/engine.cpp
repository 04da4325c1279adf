// The engine and its step: rows of several sequences through all layers of a pre-norm mixture-of-experts
// transformer (arXiv 2401.04088). Start reading at Engine::Impl::step().
//
// One thread calls step(); the worker pool computes rows, or slices of a product's outputs. No sum runs over
// rows, sequences or slices of different tasks, which is why a row's bits do not depend on its neighbours, on
// the number of threads or on the split into steps.
//
// A step fails as a whole. Inputs and KV pages are checked before anything changes, and positions advance
// only after the last check of the logits. A failed step may have written keys and values from the position
// of its sequence on; the next step overwrites them. The states of recurrent layers cannot be overwritten
// like that, so a step makes new ones, which replace those of the sequences at its end.

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "format/tensor.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/kernels/isa.h"
#include "runtime/memory/available_memory.h"

namespace sluice::runtime {
namespace {

std::size_t padded_to_tiles(std::uint64_t width) {
  return static_cast<std::size_t>(base::align_up(width, format::kTileCols));
}

/// bf16 containers are the reference path, so their keys and values are not rounded by default.
KvType default_kv(const Model& model) { return model.quant() == "bf16" ? KvType::f32 : KvType::bf16; }

/// The budget of the KV pages in bytes, checked against the memory that is free. The pages are only reserved
/// address space at first, so without this check a context that does not fit would be accepted here and the
/// process would be killed in the middle of an answer.
std::uint64_t kv_bytes(const std::optional<KvLayout>& layout, const EngineOptions& options) {
  const std::uint64_t available = available_memory_bytes();
  const KvLimits limits{.context_tokens = options.context_tokens,
                        .step_tokens = options.step_tokens_max,
                        .keep_positions = options.keep_positions};
  std::optional<std::uint64_t> needed;
  if (layout) needed = base::checked_mul(layout->page_bytes(), layout->page_count_max(limits));
  if (layout && options.kv_budget_bytes) needed = options.kv_budget_bytes;
  if (needed && *needed <= available) return *needed;
  const std::string size = needed ? base::to_human_bytes(*needed) : std::string("more than 8 EiB");
  const std::string subject =
      options.kv_budget_bytes
          ? "a budget of " + size
          : "a context of " + std::to_string(options.context_tokens) + " tokens needs " + size + " of memory";
  throw base::Error(base::ErrorKind::usage,
                    subject + " for keys and values, " + base::to_human_bytes(available) + " are free");
}

KvPool make_kv_pool(const DecoderShape& shape, const EngineOptions& options, KvType type) {
  const auto layout = KvLayout::make(shape, type);
  const std::uint64_t budget_bytes = kv_bytes(layout, options);
  return {layout.value(), budget_bytes};
}

/// Tokens of the input behind which its sequence keeps a snapshot; 0 where it keeps none.
std::size_t snapshot_rows(const StepInput& input) {
  return input.sequence->impl().snapshots_max > 0 ? input.snapshot_after : 0;
}

/// The budget of the states of recurrent layers, checked like that of the KV pages. A step of one sequence
/// needs the state before it and that behind it; a snapshot may lie between them, and those that the sequence
/// has already are given up only when the step has succeeded.
std::uint64_t state_budget_bytes(const DecoderShape& shape, const EngineOptions& options) {
  const std::uint64_t available = available_memory_bytes();
  const auto state = RecurrentPool::state_bytes(shape);
  const std::uint64_t states = 2 + (options.snapshots > 0 ? options.snapshots + 1 : 0);
  const auto needed = options.state_budget_bytes ? options.state_budget_bytes
                                                 : (state ? base::checked_mul(*state, states) : std::nullopt);
  if (state && needed && *needed <= available) return *needed;
  const std::string size = needed ? base::to_human_bytes(*needed) : std::string("more than 8 EiB");
  throw base::Error(base::ErrorKind::usage, "the states of recurrent layers need " + size + " of memory, " +
                                                base::to_human_bytes(available) + " are free");
}

/// The type of the matrix that makes the logits; rows of floats read their input as bf16 matrices do.
format::TileType head_type(const Model::Impl& model) {
  return model.head ? model.head->matrix.layout.type : format::TileType::bf16;
}

}  // namespace

PaddedWidths::PaddedWidths(const LayerShape& shape)
    : channels(padded_to_tiles(shape.recurrent.channels)),
      hidden(padded_to_tiles(shape.hidden_width)),
      shared(shape.shared ? padded_to_tiles(shape.shared->width) : 0),
      dense(padded_to_tiles(shape.dense_width)) {
  if (const auto* attention = std::get_if<format::GroupedQueryAttention>(&shape.mixer)) {
    heads = padded_to_tiles(attention->heads * attention->head_dim);
    gates = attention->output_gate ? heads : 0;
    query = attention->output_gate ? padded_to_tiles(2 * attention->heads * attention->head_dim) : heads;
    key_value = padded_to_tiles(attention->key_heads * attention->head_dim);
  } else if (const auto* net = std::get_if<format::GatedDeltaNet>(&shape.mixer)) {
    const std::uint64_t values = net->value_heads * net->value_dim;
    result = padded_to_tiles(values);
    if (net->inputs == format::DeltaInputs::packed)
      inputs = padded_to_tiles(shape.recurrent.channels + values);
  } else if (std::holds_alternative<format::ShortConvolution>(shape.mixer)) {
    result = channels;
    inputs = padded_to_tiles(3 * shape.recurrent.channels);
  } else if (const auto* of_latents = std::get_if<format::LatentAttention>(&shape.mixer)) {
    latent = LatentWidths(*of_latents);
  }
}

Engine::Impl::Impl(const Model& model_in, EngineOptions options_in)
    : model(model_in),
      shape(model_in.impl().shape),
      options(std::move(options_in)),
      isa(options.isa.value_or(detect_isa())),
      kernels(kernels_for(isa)),
      activation(gated_activation(shape.activation)),
      pool(options.thread_count, base::WorkerPool::Placement::a_core_each),
      onednn(kernels, options.thread_count),
      weights(model_in.impl(), pool),
      kv_pool(make_kv_pool(shape, options, options.kv.value_or(default_kv(model_in)))),
      recurrent_pool(shape, state_budget_bytes(shape, options)),
      dim(padded_to_tiles(shape.width)),
      vocab(padded_to_tiles(shape.vocabulary)),
      padded(shape.layers.begin(), shape.layers.end()),
      scratch(options.thread_count) {
  for (const format::Rope& rope : shape.ropes) ropes.push_back({Rope(rope), {}, {}});
  for (const LayerWeights& w : weights.model().layers)
    for (const ExpertWeights& expert : w.experts)
      require_onednn(options.matmul, expert.gate.matrix.layout.type);
  // Residency is decided last, because the buffers that reserve() takes count as used memory then.
  reserve();
  decide_residency();
}

// Takes all memory that a step may need, so that a step with the own kernels allocates nothing where the
// model is mapped (tests/runtime/allocation_test.cpp). The vectors are sized for the longest step, although
// decoding uses one row. Logits of more than one row are the exception: only a caller that asks for every
// token's logits needs them, and a row has the size of the vocabulary.
void Engine::Impl::reserve() {
  const std::size_t row_count = options.step_tokens_max;
  Activations& a = activations;
  rows.reserve(row_count);
  parts.reserve(row_count);
  for (Buffer<float>* buffer : {&a.x, &a.normed, &a.block_out}) buffer->reserve(row_count * dim);
  a.logits.reserve(vocab);
  for (RopeAngles& angles : ropes) {
    angles.cosines.reserve(row_count * angles.rope.pairs());
    angles.sines.reserve(row_count * angles.rope.pairs());
  }
  const std::size_t experts = shape.largest([](const LayerShape& layer) { return layer.experts; });
  a.router.reserve(row_count * experts);
  const std::size_t top = shape.largest([](const LayerShape& layer) { return layer.experts_per_token; });
  routing.experts.reserve(row_count * top);
  routing.weights.reserve(row_count * top);
  routing.shared_weights.reserve(row_count);
  unrouted.reserve(2);
  routing.margins.reserve(row_count);
  routing.assignments.reserve(row_count * top);
  routing.first_assignment.reserve(experts + 1);
  routing.used.reserve(experts);
  for (std::size_t layer = 0; layer < shape.layers.size(); ++layer) reserve_layer(layer, row_count);
  a.head_in.reset(head_type(weights.model()), 1, dim, kAttentionChunk);
  std::size_t stride = 0;
  for (const KvPool::Head& head : kv_pool.heads()) stride = std::max(stride, head.stride);
  for (Scratch& s : scratch) {
    // Queries and results in attend(), or one key and one value, which is less.
    s.head.reserve(2 * kAttentionQueries * stride);
    s.gate.reserve(row_count * kSlicePanels * format::kPanelRows);
    s.up.reserve(row_count * kSlicePanels * format::kPanelRows);
    s.chooser.reserve(experts, top);
  }
}

// Buffers grow to the widest layer. An InputRowsBuffer keeps separate memory for floats and for integers, and
// reset() only grows it, so this reserves for whatever types the matrices have.
void Engine::Impl::reserve_layer(std::size_t index, std::size_t row_count) {
  const LayerWeights& w = weights.model().layers[index];
  const PaddedWidths& widths = padded[index];
  Activations& a = activations;
  a.mixer_in.reset(w.mixer_input, row_count, dim, kAttentionChunk);
  std::visit([&](const auto& mixer) { reserve_mixer(mixer, widths, row_count); }, w.mixer);
  reserve_mixture(index, row_count);
}

// KV pages and states get their memory when they are first written, so they are counted here as a need.
// Everything else of the engine has its memory already and is missing from what is left. A file that lies in
// the page cache as a whole is mapped, unless there is an explicit limit.
void Engine::Impl::decide_residency() {
  const MemoryNeeds needs =
      memory_needs(weights.model(), kv_pool.bytes() + recurrent_pool.bytes() + options.reserved_bytes);
  const auto plan = plan_residency(needs, memory_left(options.memory_bytes));
  limit_too_low = options.memory_bytes && plan.too_low;
  if (plan.expert_slots == 0 || (!options.memory_bytes && is_cached(weights.model()))) return;
  weights.stream(plan.expert_slots);
}

StepLogits Engine::Impl::step(std::span<const StepInput> inputs, const std::stop_token& stop) {
  check(inputs);
  parts.clear();  // a failed step may have left its states there
  require_states(inputs);
  reserve_pages(inputs);
  begin(inputs);
  for (std::size_t layer = 0; layer < shape.layers.size(); ++layer) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    run_layer(layer);
  }
  const StepLogits logits = head(inputs);
  commit();
  return logits;
}

void Engine::Impl::begin(std::span<const StepInput> inputs) {
  rows.clear();
  parts.clear();
  for (const StepInput& input : inputs) {
    Sequence::Impl& sequence = input.sequence->impl();
    parts.push_back({.sequence = &sequence,
                     .first_row = rows.size(),
                     .row_count = input.tokens.size(),
                     .snapshot_rows = snapshot_rows(input)});
    take_states(parts.back());
    std::uint64_t position = sequence.position;
    for (const TokenId token : input.tokens) rows.push_back({&sequence, position++, token, parts.size() - 1});
  }
  weights.begin_pass();
  embed();
}

Layer Engine::Impl::layer_at(std::size_t index) {
  return {index, shape.layers[index], padded[index], weights.layer(index)};
}

void Engine::Impl::run_layer(std::size_t index) {
  // The pre-norm residual block. rms_norm() also quantizes its rows once for all matrices that read them.
  const Layer layer = layer_at(index);
  const LayerWeights& w = layer.weights;
  Activations& a = activations;
  Stopwatch watch;
  rms_norm(w.mixer_norm, a.mixer_in, w.mixer_input, kAttentionChunk);
  // h = x + mixer(norm(x))
  std::visit([&](const auto& mixer) { mix(layer, mixer); }, w.mixer);
  add_residual(w.mixer_post_norm, 1);
  norm_inputs(layer);
  watch.lap(part_seconds.attention);
  mixture(layer);  // x = h + mixture(norm(h))
  norm_results(layer);
  add_residual(w.ffn_post_norm, w.output_scale);
  weights.require_whole();
}

void Engine::Impl::embed() {
  const Embedding& embedding = weights.embedding();
  const auto scale = static_cast<float>(shape.embedding_scale);
  for_each_row([&](std::size_t r, unsigned) {
    // Columns from the width to dim stay zero: buffers start with zeros, and the padding rows of weights are
    // zero, so that block_out adds zeros. RoPE angles depend on the position alone and are computed once for
    // all layers.
    float* const x = &activations.x[r * dim];
    embedding.read(static_cast<std::uint64_t>(rows[r].token), shape.width, x);
    for (std::size_t i = 0; i < shape.width; ++i) x[i] *= scale;
    for (RopeAngles& angles : ropes) {
      const std::size_t first = r * angles.rope.pairs();
      angles.rope.angles(rows[r].position, &angles.cosines[first], &angles.sines[first]);
    }
  });
}

/// normed = rms_norm(x), and the same rows in `out` in the form in which matrices of the type `reader` read
/// them. One stands for all matrices with this input: all are bf16, or none is. The floats are kept as well,
/// because router and calibration read them unquantized.
void Engine::Impl::rms_norm(const Buffer<float>& weight, InputRowsBuffer& out, format::TileType reader,
                            std::size_t chunk) {
  const InputRows input = out.reset(reader, rows.size(), dim, chunk);
  for_each_row([&](std::size_t r, unsigned) {
    float* const normed = &activations.normed[r * dim];
    kernels.rms_norm(&activations.x[r * dim], weight.data(), static_cast<float>(shape.norm_epsilon),
                     shape.width, dim, normed);
    input.fill(kernels, r, 0, dim, normed);
  });
}

void Engine::Impl::add_residual(const Buffer<float>& post_norm, float output_scale) {
  const auto scale = static_cast<float>(shape.residual_scale);
  for_each_row([&](std::size_t r, unsigned) {
    float* const out = &activations.block_out[r * dim];
    float* const x = &activations.x[r * dim];
    if (post_norm.data() != nullptr)
      kernels.rms_norm(out, post_norm.data(), static_cast<float>(shape.norm_epsilon), shape.width, dim, out);
    // With a scale of 1 the fused multiply-add rounds as an addition does.
    kernels.add_scaled(out, scale, dim, x);
    if (output_scale != 1)
      for (std::size_t i = 0; i < dim; ++i) x[i] *= output_scale;
  });
}

StepLogits Engine::Impl::head(std::span<const StepInput> inputs) {
  Activations& a = activations;
  std::size_t count = 0;
  for (const StepInput& input : inputs)
    count += input.logits == LogitsOf::none          ? 0
             : input.logits == LogitsOf::every_token ? input.tokens.size()
                                                     : 1;
  // Only rows whose logits are wanted go through the head, which has as many outputs as the vocabulary has
  // pieces. A prompt needs one row.
  a.logits.reserve(count * vocab);
  const auto vocabulary = static_cast<std::size_t>(shape.vocabulary);
  if (count == 0) return {nullptr, 0, vocab, vocabulary};

  const Matrix* const matrix = weights.head();
  const InputRows in = a.head_in.reset(head_type(weights.model()), count, dim, kAttentionChunk);
  std::size_t out = 0;
  std::size_t row = 0;
  const auto add_row = [&](std::size_t r) {
    float* const normed = &a.normed[r * dim];
    kernels.rms_norm(&a.x[r * dim], weights.final_norm().data(), static_cast<float>(shape.norm_epsilon),
                     shape.width, dim, normed);
    in.fill(kernels, out++, 0, dim, normed);
  };
  for (const StepInput& input : inputs) {
    const std::size_t end = row + input.tokens.size();
    if (input.logits == LogitsOf::last_token) add_row(end - 1);
    if (input.logits == LogitsOf::every_token)
      for (; row < end; ++row) add_row(row);
    row = end;
  }
  Stopwatch watch;
  if (matrix != nullptr)
    products(in, {{matrix, a.logits.data(), vocab}});
  else
    float_head(in);
  const auto scale = static_cast<float>(shape.logits_scale);
  if (scale != 1)
    for (std::size_t i = 0; i < count * vocab; ++i) a.logits[i] *= scale;
  if (shape.final_soft_cap) {
    pool.run_in_shares(count * vocab / format::kPanelRows, [&](std::size_t panel, unsigned) {
      kernels.soft_cap(static_cast<float>(*shape.final_soft_cap), format::kPanelRows,
                       &a.logits[panel * format::kPanelRows]);
    });
  }
  watch.lap(part_seconds.head);
  weights.require_whole();
  const StepLogits logits(a.logits.data(), count, vocab, vocabulary);
  check_logits(inputs, logits);
  return logits;
}

/// The head as rows of floats: the embedding of a release that has it so (Grok-1), in a bf16 container.
void Engine::Impl::float_head(const InputRows& in) {
  const float* const rows_of_head = weights.embedding().floats;
  const std::size_t vocabulary = shape.vocabulary;
  pool.run_in_shares(base::divide_up(vocabulary, format::kPanelRows), [&](std::size_t panel, unsigned) {
    const std::size_t first = panel * format::kPanelRows;
    const std::size_t count = std::min<std::size_t>(format::kPanelRows, vocabulary - first);
    kernels.dots(in.floats(), dim, in.rows(), rows_of_head + first * dim, dim, count, dim,
                 &activations.logits[first], vocab);
  });
}

void Engine::Impl::check_logits(std::span<const StepInput> inputs, const StepLogits& logits) const {
  std::size_t row = 0;
  for (const StepInput& input : inputs) {
    const std::uint64_t end = input.sequence->position() + input.tokens.size();
    const std::uint64_t count = input.logits == LogitsOf::none          ? 0
                                : input.logits == LogitsOf::every_token ? input.tokens.size()
                                                                        : 1;
    for (std::uint64_t i = 0; i < count; ++i, ++row) {
      // Sampling compares logits and sums their exponentials. A NaN would silently pick a token, so it is
      // refused here. Quantized rows carry a NaN as far as this: their scale becomes NaN (quantize_chunk).
      if (std::ranges::all_of(logits[row], [](float logit) { return std::isfinite(logit); })) continue;
      throw base::Error(base::ErrorKind::malformed, weights.model().container.path().string() +
                                                        ": the logits at position " +
                                                        std::to_string(end - count + i) + " are not finite");
    }
  }
}

/// Nothing here can fail: the sequences advance together or not at all.
void Engine::Impl::commit() {
  for (StepPart& part : parts) {
    Sequence::Impl& sequence = *part.sequence;
    if (part.snapshot_rows > 0)
      sequence.keep(sequence.position + part.snapshot_rows, part.snapshot ? part.snapshot : part.end);
    sequence.position += part.row_count;
    if (part.end) sequence.state = std::move(part.end);
  }
  parts.clear();
}

void Engine::Impl::check(std::span<const StepInput> inputs) const {
  std::size_t row_count = 0;
  for (const StepInput& input : inputs) {
    const Sequence::Impl& sequence = input.sequence->impl();
    // These are errors of the caller; tokens and context lengths come from users and are an Error.
    INVARIANT(!input.tokens.empty() && &sequence.engine == this);
    INVARIANT(input.snapshot_after <= input.tokens.size());
    row_count += input.tokens.size();
    sequence.check(input.tokens);
  }
  INVARIANT(row_count <= options.step_tokens_max);
}

void Engine::Impl::require_states(std::span<const StepInput> inputs) const {
  if (recurrent_pool.state_bytes() == 0) return;
  std::size_t needed = inputs.size();
  for (const StepInput& input : inputs)
    needed += snapshot_rows(input) > 0 && snapshot_rows(input) < input.tokens.size();
  if (needed <= recurrent_pool.free_state_count()) return;
  throw base::Error(base::ErrorKind::usage,
                    "recurrent layers need " + std::to_string(needed) + " more states, " +
                        std::to_string(recurrent_pool.free_state_count()) + " of the budget's " +
                        std::to_string(recurrent_pool.state_count()) + " are free");
}

void Engine::Impl::reserve_pages(std::span<const StepInput> inputs) {
  std::int64_t needed = 0;
  for (const StepInput& input : inputs) needed += input.sequence->pages_needed(input.tokens.size());
  if (needed > static_cast<std::int64_t>(kv_pool.free_page_count())) {
    throw base::Error(base::ErrorKind::usage, "keys and values need " + std::to_string(needed) +
                                                  " more pages of " + std::to_string(kKvPageTokens) +
                                                  " tokens, " + std::to_string(kv_pool.free_page_count()) +
                                                  " of the budget's " + std::to_string(kv_pool.page_count()) +
                                                  " are free");
  }
  // All inputs together were checked, not each alone: a sequence whose window moves on may provide the pages
  // that another takes. So those that give back more than they take come first. The second loop finds nothing
  // to do for them.
  const auto reserve_for = [&](const StepInput& input) {
    Sequence::Impl& s = input.sequence->impl();
    s.cache.reserve(s.position, s.position + input.tokens.size());
  };
  for (const StepInput& input : inputs)
    if (input.sequence->pages_needed(input.tokens.size()) < 0) reserve_for(input);
  for (const StepInput& input : inputs) reserve_for(input);
}

Engine::Engine(const Model& model, EngineOptions options)
    : impl_(std::make_unique<Impl>(model, std::move(options))) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;

StepLogits Engine::step(std::span<const StepInput> inputs, const std::stop_token& stop) {
  return impl_->step(inputs, stop);
}
const Model& Engine::model() const { return impl_->model; }
const EngineOptions& Engine::options() const { return impl_->options; }
KvPages Engine::kv_pages() const {
  const KvPool& pool = impl_->kv_pool;
  return {kKvPageTokens, pool.page_bytes(), pool.page_count(), pool.free_page_count()};
}
ResidencyStats Engine::residency_stats() const {
  ResidencyStats stats = impl_->weights.stats();
  stats.limit_too_low = impl_->limit_too_low;
  return stats;
}
RecurrentStates Engine::recurrent_states() const {
  const RecurrentPool& pool = impl_->recurrent_pool;
  return {pool.state_bytes(), pool.state_count(), pool.free_state_count()};
}
PartSeconds Engine::part_seconds() const { return impl_->part_seconds; }
bool Engine::has_used_onednn() const { return impl_->onednn.calls() > 0; }

}  // namespace sluice::runtime
