// The properties of a ModelDescription that the forward pass does not compute. Each is refused by name:
// ignoring one would give fluent nonsense, which is worse than an error. When the forward pass learns one,
// its line here goes and docs/families.md changes.

#include "runtime/memory/supported_model.h"

#include <string>

#include "base/error.h"

namespace sluice::runtime {
namespace {

using namespace format;

/// Refuses what is not computed, in the words that docs/families.md lists.
class SupportCheck final {
 public:
  explicit SupportCheck(std::string subject) : subject_(std::move(subject)) {}

  void refuse_if(bool present, std::string_view what) const {
    if (present) base::throw_malformed(subject_, std::string(what) + " is not supported yet");
  }

  void check(const ModelDescription& model) const {
    refuse_if(model.norm.weights != NormWeights::plain, "norm with weights plus one");
    refuse_if(!std::holds_alternative<Silu>(model.activation),
              "activation " + std::string(activation_name(model.activation)));
    refuse_if(model.tied_embeddings, "embedding tied to the head");
    refuse_if(model.embedding_scale != 1, "embedding scale");
    refuse_if(model.residual_scale != 1, "residual scale");
    refuse_if(model.logits_scale != 1, "logits scale");
    refuse_if(model.final_soft_cap.has_value(), "final soft cap");
  }

  void check(const LayerDescription& layer) const {
    const auto* attention = std::get_if<GroupedQueryAttention>(&layer.mixer);
    refuse_if(attention == nullptr, "mixer " + std::string(mixer_name(layer.mixer)));
    check(*attention);
    refuse_if(layer.post_norms, "normalisation behind mixer and feed-forward");
    refuse_if(layer.output_scale, "output scale");
    const auto& mixture = layer.feed_forward.mixture;
    refuse_if(mixture && layer.feed_forward.dense, "dense feed-forward in addition to experts");
    if (mixture) check(*mixture);
  }

 private:
  void check(const GroupedQueryAttention& attention) const {
    refuse_if(attention.input_biases, "bias of queries, keys and values");
    refuse_if(attention.output_bias, "bias of the attention's output");
    refuse_if(attention.query_key_norm == QueryKeyNorm::per_head, "query and key norm per head");
    refuse_if(attention.query_key_norm == QueryKeyNorm::full_width, "query and key norm over the full width");
    refuse_if(attention.value_norm, "value norm");
    refuse_if(attention.keys_are_values, "attention without a value matrix");
    refuse_if(attention.sinks, "attention sink");
    refuse_if(attention.output_gate, "gate of the attention's output");
    refuse_if(attention.scale.has_value(), "attention scale");
    refuse_if(attention.soft_cap.has_value(), "attention soft cap");
    refuse_if(attention.clip.has_value(), "clipping of queries, keys and values");
    refuse_if(attention.query_temperature.has_value(), "query temperature");
    refuse_if(!attention.rope, "attention without positions");
    check(*attention.rope, attention.head_dim);
  }

  void check(const Rope& rope, std::uint64_t head_dim) const {
    refuse_if(rope.style == RopeStyle::half_split, "half-split RoPE");
    refuse_if(rope.rotary_dims != head_dim, "RoPE over a part of the head");
    refuse_if(std::holds_alternative<YarnScaling>(rope.scaling), "RoPE scaling yarn");
    refuse_if(std::holds_alternative<Llama3Scaling>(rope.scaling), "RoPE scaling llama3");
    refuse_if(std::holds_alternative<ProportionalScaling>(rope.scaling), "RoPE scaling proportional");
    refuse_if(std::holds_alternative<LinearScaling>(rope.scaling), "RoPE scaling linear");
  }

  void check(const Mixture& mixture) const {
    refuse_if(mixture.expert_biases, "bias of the experts");
    refuse_if(mixture.shared.has_value(), "shared expert");
    const Router& router = mixture.router;
    refuse_if(router.score == RouterScore::sigmoid, "router with sigmoid scores");
    refuse_if(!router.renormalise, "router without renormalised weights");
    refuse_if(router.logit_bias, "bias of the router's logits");
    refuse_if(router.selection_bias, "bias of the router's selection");
    refuse_if(router.groups.has_value(), "router with groups of experts");
    refuse_if(router.scale != 1, "router scale");
    refuse_if(router.own_input, "router with an input of its own");
  }

  std::string subject_;
};

}  // namespace

DecoderShape require_supported(const ModelDescription& description, std::string_view subject) {
  SupportCheck(std::string(subject)).check(description);
  for (std::uint64_t i = 0; i < description.layer_count(); ++i) {
    const SupportCheck layer(std::string(subject) + ": layer " + std::to_string(i));
    layer.check(description.layer(i));
    // DecoderShape has one set of sizes for all layers.
    layer.refuse_if(description.layers[i] != description.layers[0],
                    "a kind of layer other than that of layer 0");
  }

  const LayerDescription& layer = description.layer(0);
  const auto& attention = std::get<GroupedQueryAttention>(layer.mixer);
  DecoderShape shape;
  shape.width = description.width;
  shape.layers = description.layer_count();
  shape.head_dim = attention.head_dim;
  shape.heads = attention.heads;
  shape.key_heads = attention.key_heads;
  shape.vocabulary = description.vocabulary;
  shape.norm_epsilon = description.norm.epsilon;
  shape.rope_base = attention.rope->base;
  shape.window_tokens = attention.window_tokens;
  if (const auto& mixture = layer.feed_forward.mixture) {
    shape.routed = true;
    shape.hidden_width = mixture->width;
    shape.experts = mixture->experts;
    shape.experts_per_token = mixture->experts_per_token;
  } else {
    shape.hidden_width = layer.feed_forward.dense->width;
  }
  return shape;
}

}  // namespace sluice::runtime
