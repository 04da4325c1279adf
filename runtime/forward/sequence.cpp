// Sequence, the tokens of one prompt in an engine, and Session, an engine with one sequence, which feeds
// prompts of any length in steps.

#include <algorithm>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {

Sequence::Sequence(Engine& engine, SequenceOptions options) {
  Engine::Impl& e = engine.impl();
  // A sequence may be shorter than the engine allows, never longer: the default KV budget counts on it.
  const std::uint64_t context =
      std::min(options.context_tokens.value_or(e.options.context_tokens), e.options.context_tokens);
  const KvLimits limits{.context_tokens = context,
                        .step_tokens = e.options.step_tokens_max,
                        .keep_positions = options.keep_positions};
  impl_.reset(new Impl{.engine = e,
                       .context_tokens = context,
                       .on_routing = std::move(options.on_routing),
                       .cache = KvCache(e.kv_pool, limits),
                       .snapshots_max = e.recurrent_pool.state_bytes() > 0 ? options.snapshots : 0});
  impl_->snapshots.reserve(static_cast<std::size_t>(impl_->snapshots_max));
}
Sequence::~Sequence() = default;
Sequence::Sequence(Sequence&&) noexcept = default;

void Sequence::Impl::check(std::span<const TokenId> tokens) const {
  // position never exceeds context_tokens, so the subtraction cannot wrap around.
  if (tokens.size() > context_tokens - position) {
    throw base::Error(base::ErrorKind::malformed, "prompt: " + std::to_string(tokens.size()) +
                                                      " tokens after " + std::to_string(position) +
                                                      " do not fit the context of " +
                                                      std::to_string(context_tokens));
  }
  const std::uint64_t vocab_size = engine.shape.vocabulary;
  for (const TokenId token : tokens) {
    if (token >= 0 && static_cast<std::uint64_t>(token) < vocab_size) continue;
    throw base::Error(base::ErrorKind::malformed, "prompt: token id " + std::to_string(token) +
                                                      " is outside the vocabulary of " +
                                                      std::to_string(vocab_size));
  }
}

std::uint64_t Sequence::position() const { return impl_->position; }
std::uint64_t Sequence::context_tokens() const { return impl_->context_tokens; }

std::int64_t Sequence::pages_needed(std::uint64_t token_count) const {
  return impl_->cache.pages_needed(impl_->position, impl_->position + token_count);
}

void Sequence::Impl::keep(std::uint64_t at, RecurrentState kept) {
  if (!snapshots.empty() && snapshots.back().position == at) return;
  if (snapshots.size() == snapshots_max) snapshots.erase(snapshots.begin());
  snapshots.push_back({at, std::move(kept)});
}

void Sequence::keep_snapshot() {
  if (impl_->snapshots_max > 0 && impl_->position > 0) impl_->keep(impl_->position, impl_->state);
}

void Sequence::reset() {
  impl_->position = 0;
  impl_->cache.clear();
  impl_->state = {};
  impl_->snapshots.clear();
}

std::uint64_t Sequence::truncate(std::uint64_t token_count) {
  INVARIANT(token_count <= impl_->position);
  Impl& s = *impl_;
  if (token_count < s.position && s.engine.recurrent_pool.state_bytes() > 0) {
    while (!s.snapshots.empty() && s.snapshots.back().position > token_count) s.snapshots.pop_back();
    token_count = s.snapshots.empty() ? 0 : s.snapshots.back().position;
    s.state = s.snapshots.empty() ? RecurrentState() : s.snapshots.back().state;
  }
  if (token_count > 0 && s.cache.truncate(token_count)) {
    s.position = token_count;
  } else {
    reset();
  }
  return s.position;
}

struct Session::Impl {
  Impl(const Model& model, const SessionOptions& options)
      : engine(model, engine_options(options)),
        sequence(engine, {.keep_positions = options.keep_positions,
                          .snapshots = options.snapshots,
                          .on_routing = options.on_routing}),
        stop(options.stop) {}

  static EngineOptions engine_options(const SessionOptions& options) {
    return {.thread_count = options.thread_count,
            .context_tokens = options.context_tokens,
            .step_tokens_max = std::min(options.prefill_chunk_tokens, options.context_tokens),
            .kv = options.kv,
            .keep_positions = options.keep_positions,
            .snapshots = options.snapshots,
            .isa = options.isa,
            .matmul = options.matmul,
            .memory_bytes = options.memory_bytes,
            .reserved_bytes = options.reserved_bytes};
  }

  Engine engine;
  Sequence sequence;
  std::stop_token stop;
};

Session::Session(const Model& model, SessionOptions options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;

namespace {

/// The tokens at the end of a prompt that later ones may write otherwise: the beginning of an answer, which
/// templates open with marks of thinking that they leave out of the history.
constexpr std::size_t kAnswerMarkTokens = 16;
/// Snapshots are at least so many tokens apart: computing fewer again costs less than a second.
constexpr std::size_t kSnapshotSpacingTokens = 512;

/// Where in the tokens (first, end] of a prompt of `count` tokens the session keeps a snapshot: before the
/// beginning of the answer, or, for a prompt cache, at one of the points that divide the prompt evenly. 0:
/// nowhere.
std::size_t snapshot_point(std::size_t first, std::size_t end, std::size_t count,
                           const EngineOptions& options) {
  if (options.snapshots == 0 || count <= kAnswerMarkTokens) return 0;
  const std::size_t last = count - kAnswerMarkTokens;
  if (first < last && last <= end) return last;
  if (!options.keep_positions) return 0;
  const std::size_t spacing =
      std::max(kSnapshotSpacingTokens, static_cast<std::size_t>(base::divide_up(count, options.snapshots)));
  const std::size_t point = std::min(end, last) / spacing * spacing;
  return point > first ? point : 0;
}

}  // namespace

std::span<const float> Session::feed(std::span<const TokenId> tokens) {
  // Steps of at most step_tokens_max tokens. The split does not change the logits of q8 and q4 models. Only
  // the last step computes the head.
  INVARIANT(!tokens.empty());
  impl_->sequence.impl().check(tokens);  // all of them, before the first is computed
  for (std::size_t done = 0;; done += impl_->engine.options().step_tokens_max) {
    const auto count = std::min<std::size_t>(tokens.size() - done, impl_->engine.options().step_tokens_max);
    const bool last = done + count == tokens.size();
    const std::size_t snapshot = snapshot_point(done, done + count, tokens.size(), impl_->engine.options());
    const StepInput input{.sequence = &impl_->sequence,
                          .tokens = tokens.subspan(done, count),
                          .logits = last ? LogitsOf::last_token : LogitsOf::none,
                          .snapshot_after = snapshot > 0 ? snapshot - done : 0};
    const StepLogits logits = impl_->engine.step({&input, 1}, impl_->stop);
    if (last) return logits[0];
  }
}

void Session::feed_all(std::span<const TokenId> tokens,
                       const std::function<void(std::size_t, std::span<const float>)>& visit) {
  impl_->sequence.impl().check(tokens);
  for (std::size_t done = 0; done < tokens.size();) {
    const auto count = std::min<std::size_t>(tokens.size() - done, impl_->engine.options().step_tokens_max);
    const StepInput input{&impl_->sequence, tokens.subspan(done, count), LogitsOf::every_token};
    const StepLogits logits = impl_->engine.step({&input, 1}, impl_->stop);
    for (std::size_t row = 0; row < count; ++row) visit(done + row, logits[row]);
    done += count;
  }
}

void Session::reset() { impl_->sequence.reset(); }
std::uint64_t Session::truncate(std::uint64_t token_count) { return impl_->sequence.truncate(token_count); }
void Session::set_stop(std::stop_token stop) { impl_->stop = std::move(stop); }
std::uint64_t Session::position() const { return impl_->sequence.position(); }
std::uint64_t Session::context_tokens() const { return impl_->sequence.context_tokens(); }
ResidencyStats Session::residency_stats() const { return impl_->engine.residency_stats(); }
bool Session::has_used_onednn() const { return impl_->engine.has_used_onednn(); }
PartSeconds Session::part_seconds() const { return impl_->engine.part_seconds(); }
Engine& Session::engine() { return impl_->engine; }
Sequence& Session::sequence() { return impl_->sequence; }

}  // namespace sluice::runtime
