// Sequence, the tokens of one prompt in an engine, and Session, an engine with one sequence, which feeds
// prompts of any length in steps.

#include <algorithm>
#include <string>
#include <utility>

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
                       .cache = KvCache(e.kv_pool, limits)});
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

void Sequence::reset() {
  impl_->position = 0;
  impl_->cache.clear();
}

std::uint64_t Sequence::truncate(std::uint64_t token_count) {
  INVARIANT(token_count <= impl_->position);
  if (impl_->cache.truncate(token_count)) {
    impl_->position = token_count;
  } else {
    reset();
  }
  return impl_->position;
}

struct Session::Impl {
  Impl(const Model& model, const SessionOptions& options)
      : engine(model, engine_options(options)),
        sequence(engine, {.keep_positions = options.keep_positions, .on_routing = options.on_routing}),
        stop(options.stop) {}

  static EngineOptions engine_options(const SessionOptions& options) {
    return {.thread_count = options.thread_count,
            .context_tokens = options.context_tokens,
            .step_tokens_max = std::min(options.prefill_chunk_tokens, options.context_tokens),
            .kv = options.kv,
            .keep_positions = options.keep_positions,
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

std::span<const float> Session::feed(std::span<const TokenId> tokens) {
  // Steps of at most step_tokens_max tokens. The split does not change the logits of q8 and q4 models. Only
  // the last step computes the head.
  INVARIANT(!tokens.empty());
  impl_->sequence.impl().check(tokens);  // all of them, before the first is computed
  while (true) {
    const auto count = std::min<std::size_t>(tokens.size(), impl_->engine.options().step_tokens_max);
    const bool last = count == tokens.size();
    const StepInput input{&impl_->sequence, tokens.first(count),
                          last ? LogitsOf::last_token : LogitsOf::none};
    const StepLogits logits = impl_->engine.step({&input, 1}, impl_->stop);
    if (last) return logits[0];
    tokens = tokens.subspan(count);
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
