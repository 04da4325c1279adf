// Evaluation: perplexity of a model on a text, and how far it is from a reference model on the same tokens
// (KL divergence, most likely tokens, routing).
//
// Both models score the same block of tokens before the next one, so only kBlockTokens rows of log
// probabilities are held for each, whatever the context. Everything is computed in double: divergences of
// quantized models are as small as 0.001 nats (docs/decisions/0002-activation-chunks.md).

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "format/hub/sections.h"
#include "runtime/memory/model_impl.h"
#include "runtime/memory/residency.h"
#include "runtime/runtime.h"

namespace sluice::runtime {
namespace {

// Rows of log probabilities that are held at once. For a vocabulary of 32,000 they take 16 MB.
constexpr std::size_t kBlockTokens = 64;

/// ln of the softmax of `logits`, in double.
std::vector<double> log_softmax(std::span<const float> logits) {
  // Subtracting the largest keeps exp() from overflowing.
  const auto largest = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double log_sum = largest + std::log(sum);
  std::vector<double> result(logits.size());
  std::ranges::transform(logits, result.begin(),
                         [&](float logit) { return static_cast<double>(logit) - log_sum; });
  return result;
}

/// Experts of every (layer, position) of one chunk, each set sorted.
struct RoutingRecord {
  std::uint64_t layers;
  std::vector<std::vector<std::uint32_t>> sets;  // [position * layers + layer]

  void add(const RoutingEvent& event) {
    const auto at = static_cast<std::size_t>(event.position * layers + event.layer);
    if (sets.size() <= at) sets.resize(at + 1);
    sets[at].assign(event.experts.begin(), event.experts.end());
    // Only the set counts: the order of two experts with almost equal logits is chance.
    std::ranges::sort(sets[at]);
  }
};

/// One model's session with a record of its routing.
class Scorer {
 public:
  Scorer(const Model& model, SessionOptions options)
      : record_{model.description().layer_count(), {}}, session_(model, with_record(std::move(options))) {}

  void start() {
    session_.reset();
    record_.sets.clear();
  }

  /// Log probabilities [token][vocab] of the next tokens.
  std::vector<std::vector<double>> score(std::span<const TokenId> input) {
    std::vector<std::vector<double>> rows;
    rows.reserve(input.size());
    session_.feed_all(
        input, [&](std::size_t, std::span<const float> logits) { rows.push_back(log_softmax(logits)); });
    return rows;
  }

  [[nodiscard]] const RoutingRecord& routing() const { return record_; }

 private:
  SessionOptions with_record(SessionOptions options) {
    options.on_routing = [this](const RoutingEvent& event) { record_.add(event); };
    return options;
  }

  RoutingRecord record_;
  Session session_;
};

double divergence(std::span<const double> reference, std::span<const double> model) {
  double sum = 0;
  for (std::size_t i = 0; i < reference.size(); ++i)
    // KL(reference || model) = sum of p ln(p / q); both are log probabilities of finite logits, so no term is
    // 0 x infinity.
    sum += std::exp(reference[i]) * (reference[i] - model[i]);
  return sum;
}

std::size_t most_likely(std::span<const double> row) {
  return static_cast<std::size_t>(std::ranges::max_element(row) - row.begin());
}

/// Sums over all positions.
struct Totals {
  std::uint64_t tokens = 0;
  double nll = 0;
  double divergence = 0;
  std::uint64_t same_top = 0;
  std::vector<std::uint64_t> same_experts;  // by layer

  void compare(const std::vector<std::vector<double>>& model,
               const std::vector<std::vector<double>>& reference) {
    for (std::size_t i = 0; i < model.size(); ++i) {
      divergence += sluice::runtime::divergence(reference[i], model[i]);
      same_top += most_likely(model[i]) == most_likely(reference[i]);
    }
  }

  void compare(const RoutingRecord& model, const RoutingRecord& reference) {
    for (std::size_t i = 0; i < model.sets.size(); ++i)
      // Layer is the fastest index of `sets`.
      same_experts[i % model.layers] += model.sets[i] == reference.sets[i];
  }
};

void require_comparable(const Model& model, const Model& reference) {
  const auto& a = model.description();
  const auto& b = reference.description();
  const auto& tokenizer_a = format::find_tokenizer_section(model.impl().container);
  const auto& tokenizer_b = format::find_tokenizer_section(reference.impl().container);
  const auto experts = [](const format::ModelDescription& description, std::uint64_t layer) {
    const auto& mixture = description.layer(layer).feed_forward.mixture;
    return mixture ? mixture->experts : 0;
  };
  bool comparable = a.vocabulary == b.vocabulary && a.layer_count() == b.layer_count() &&
                    tokenizer_a.sha256 == tokenizer_b.sha256;
  for (std::uint64_t layer = 0; comparable && layer < a.layer_count(); ++layer)
    comparable = experts(a, layer) == experts(b, layer);
  if (!comparable) {
    throw base::Error(base::ErrorKind::usage,
                      "the reference is another model: tokenizer, vocabulary, layers or experts differ");
  }
}

/// The options of each scorer, whose memory includes the logits of a step and log probabilities of a context.
SessionOptions scorer_options(const Model& model, const Model* reference, const SessionOptions& options,
                              const std::stop_token& stop) {
  SessionOptions scorer = options;
  scorer.stop = stop;
  // Quality is measured against f32, so activations of bf16 containers are not rounded.
  if (options.matmul == MatmulEngine::automatic) scorer.matmul = MatmulEngine::own;
  scorer.reserved_bytes = model.description().vocabulary *
                          (std::min(options.prefill_chunk_tokens, options.context_tokens) * sizeof(float) +
                           options.context_tokens * sizeof(double));
  // Half for each: when one engine plans, the other has not taken all of its memory yet, so what looks free
  // is meant for both.
  if (reference != nullptr) scorer.memory_bytes = memory_left(options.memory_bytes) / 2;
  return scorer;
}

/// A part of the text that is scored alone: `targets` follow the tokens of `input`, one each.
struct Chunk {
  std::vector<TokenId> input;
  std::span<const TokenId> targets;
};

/// With a BOS the input begins with it, and all tokens are targets. Models without one have no token that
/// could stand before the first, so that is given.
Chunk make_chunk(std::span<const TokenId> ids, std::optional<TokenId> bos) {
  Chunk chunk{{}, bos ? ids : ids.subspan(1)};
  if (bos) chunk.input.push_back(*bos);
  chunk.input.insert(chunk.input.end(), ids.begin(), ids.end() - 1);
  return chunk;
}

/// Adds one chunk of the text, which each scorer reads from position 0.
void score_chunk(const Chunk& chunk, Scorer& scorer, Scorer* reference, Totals& totals) {
  scorer.start();
  if (reference != nullptr) reference->start();
  for (std::size_t first = 0; first < chunk.input.size(); first += kBlockTokens) {
    const auto block =
        std::span(chunk.input).subspan(first, std::min(kBlockTokens, chunk.input.size() - first));
    const auto rows = scorer.score(block);
    for (std::size_t i = 0; i < rows.size(); ++i)
      totals.nll -= rows[i][static_cast<std::size_t>(chunk.targets[first + i])];
    if (reference != nullptr) totals.compare(rows, reference->score(block));
  }
  totals.tokens += chunk.targets.size();
  if (reference != nullptr) totals.compare(scorer.routing(), reference->routing());
}

Evaluation to_evaluation(const Totals& totals, const format::ModelDescription& model, bool has_reference) {
  const auto count = static_cast<double>(totals.tokens);
  Evaluation result;
  result.tokens = totals.tokens;
  result.nll = totals.nll / count;
  result.perplexity = std::exp(result.nll);
  if (!has_reference) return result;
  result.kl_divergence = totals.divergence / count;
  result.top1_agreement = static_cast<double>(totals.same_top) / count;
  double sum = 0;
  std::size_t routed_layers = 0;
  for (std::uint64_t layer = 0; layer < model.layer_count(); ++layer) {
    // In a dense layer there is nothing to agree on.
    const bool routed = model.layer(layer).feed_forward.mixture.has_value();
    const double share = static_cast<double>(totals.same_experts[layer]) / count;
    result.routing_agreement_by_layer.push_back(routed ? share : 1);
    if (routed) sum += share;
    routed_layers += routed;
  }
  if (routed_layers == 0) {
    result.routing_agreement_by_layer.clear();
  } else {
    result.routing_agreement = sum / static_cast<double>(routed_layers);
  }
  return result;
}

}  // namespace

Evaluation evaluate(const Model& model, const Model* reference, std::string_view text,
                    const SessionOptions& options,
                    const std::function<void(std::uint64_t, std::uint64_t)>& on_progress,
                    const std::stop_token& stop) {
  if (options.context_tokens < 2)
    throw base::Error(base::ErrorKind::usage, "evaluation needs a context of at least 2 tokens");
  const std::vector<TokenId> ids = model.tokenizer().encode(text);
  if (ids.empty()) throw base::Error(base::ErrorKind::malformed, "the text to evaluate has no tokens");

  SessionOptions each = scorer_options(model, reference, options, stop);
  Scorer scorer(model, each);
  std::optional<Scorer> reference_scorer;
  if (reference != nullptr) {
    require_comparable(model, *reference);
    each.kv.reset();  // each model with its own default
    reference_scorer.emplace(*reference, each);
  }

  Totals totals;
  totals.same_experts.resize(model.description().layer_count());
  const std::optional<TokenId> bos = model.tokenizer().bos();
  const auto chunk_max = static_cast<std::size_t>(options.context_tokens - (bos ? 1 : 0));
  for (std::size_t done = 0; done < ids.size();) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    const auto chunk = std::span(ids).subspan(done, std::min(chunk_max, ids.size() - done));
    score_chunk(make_chunk(chunk, bos), scorer, reference_scorer ? &*reference_scorer : nullptr, totals);
    done += chunk.size();
    on_progress(done, ids.size());
  }
  if (totals.tokens == 0)
    throw base::Error(base::ErrorKind::malformed,
                      "the text to evaluate has one token, and this model has no BOS to predict it from");
  return to_evaluation(totals, model.description(), reference != nullptr);
}

}  // namespace sluice::runtime
