// Readers of configurations with several kinds of layers. A file names the kind of each layer in
// "layer_types", or gives a rule ("full_attention_interval", "full_attn_idxs"); the two must agree. Defaults
// are those of the family's class in transformers. Pure functions; any number of threads may call them.

#include "format/hub/hybrid_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/hub/config_parts.h"
#include "format/model_limits.h"

namespace sluice::format {
namespace {

// ---- Which layers have full attention ----

using FullLayers = std::vector<bool>;

constexpr std::string_view kFullAttention = "full_attention";

/// Nothing where the file has no "layer_types". `other` is the type of the layers without full attention.
std::optional<FullLayers> find_full_layers(ConfigReader& config, std::uint64_t layers,
                                           std::string_view other) {
  const auto* types = find_layer_types(config, layers);
  if (types == nullptr) return std::nullopt;
  FullLayers full;
  for (const Json& type : *types) {
    full.push_back(type == Json(std::string(kFullAttention)));
    if (!full.back() && type != Json(std::string(other)))
      refuse_value(config.subject(), "layer_types", type,
                   std::string(kFullAttention) + " or " + std::string(other));
  }
  return full;
}

/// The last of every `interval` layers.
FullLayers full_layers_at_interval(std::uint64_t layers, std::uint64_t interval) {
  FullLayers full;
  for (std::uint64_t layer = 0; layer < layers; ++layer) full.push_back((layer + 1) % interval == 0);
  return full;
}

void refuse_contradiction(const ConfigReader& config, std::string_view key) {
  base::throw_malformed(config.place(key), "says other layers than 'layer_types'");
}

// ---- Qwen's gated delta nets, arXiv 2412.06464 ----

FullLayers read_qwen_full_layers(ConfigReader& config, std::uint64_t layers) {
  // transformers reads the interval only where there is no list, which fine-tuned models with fewer layers
  // rely on.
  const std::uint64_t interval = config.count_or("full_attention_interval", 4, kLayersMax);
  const auto listed = find_full_layers(config, layers, "linear_attention");
  return listed ? *listed : full_layers_at_interval(layers, interval);
}

GatedDeltaNet read_delta_net(ConfigReader& config, DeltaInputs inputs) {
  GatedDeltaNet delta;
  delta.key_heads = config.count("linear_num_key_heads", kWidthMax);
  delta.value_heads = config.count("linear_num_value_heads", kWidthMax);
  delta.key_dim = config.count("linear_key_head_dim", kWidthMax);
  delta.value_dim = config.count("linear_value_head_dim", kWidthMax);
  delta.convolution_tokens = config.count("linear_conv_kernel_dim", kTokensMax);
  delta.inputs = inputs;
  return delta;
}

GroupedQueryAttention read_gated_attention(ConfigReader& config, const ModelDescription& model) {
  RopeDefaults rope;
  rope.rotary_part = 0.25;
  rope.image_sections = true;
  GroupedQueryAttention attention = read_attention(config, model, rope);
  attention.query_key_norm = QueryKeyNorm::per_head;
  attention.input_biases = attention.output_bias = config.flag("attention_bias", false);
  attention.output_gate = true;
  config.require("attn_output_gate", {true});
  return attention;
}

/// The experts of both families, before the router.
Mixture read_gated_mixture(ConfigReader& config) {
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.shared = SharedExpert{config.count("shared_expert_intermediate_size", kWidthMax), true};
  return mixture;
}

ModelConfig read_qwen_hybrid(ConfigReader& config, ModelDescription model, const GatedDeltaNet& delta,
                             const std::vector<FeedForward>& feed_forwards) {
  model.norm.weights = NormWeights::plus_one;
  const GroupedQueryAttention attention = read_gated_attention(config, model);
  const FullLayers full = read_qwen_full_layers(config, feed_forwards.size());
  // There are no windows.
  config.require("use_sliding_window", {false});
  config.ignore({"sliding_window", "max_window_layers"});
  for (std::size_t layer = 0; layer < full.size(); ++layer)
    model.add_layers(1, {full[layer] ? Mixer(attention) : Mixer(delta), feed_forwards[layer]});
  // Modules that predict further tokens have names of their own, "mtp.", and are left out.
  config.ignore({"mtp_num_hidden_layers", "mtp_use_dedicated_embeddings"});
  return {.description = std::move(model), .prediction_layers = 0, .skipped_keys = {}};
}

// ---- Gemma ----

/// Lists what releases of the family have that a description cannot say, by the key that announces it.
void refuse_other_gemmas(ConfigReader& config) {
  config.require("hidden_size_per_layer_input", {0});  // embeddings for each layer: E2B, E4B
  config.require("num_kv_shared_layers", {0});         // layers that read the keys of earlier ones
  config.require("use_double_wide_mlp", {false});
  config.require("attn_logit_softcapping", {nullptr});
  config.ignore({"vocab_size_per_layer_input"});
  // Only tokens of images see those behind them, unless it says "all".
  config.require("use_bidirectional_attention", {"vision", false});
}

/// One layer in six is full where the file does not name the types.
FullLayers read_gemma_full_layers(ConfigReader& config, std::uint64_t layers) {
  const auto listed = find_full_layers(config, layers, "sliding_attention");
  FullLayers full = listed ? *listed : full_layers_at_interval(layers, 6);
  if (!listed) full.back() = true;
  return full;
}

struct GemmaAttention {
  GroupedQueryAttention sliding;
  GroupedQueryAttention full;
};

GemmaAttention read_gemma_attention(ConfigReader& config, const ModelDescription& model) {
  GemmaAttention attention;
  GroupedQueryAttention& sliding = attention.sliding;
  sliding = read_heads(config, model);
  sliding.query_key_norm = QueryKeyNorm::per_head;
  sliding.value_norm = true;
  sliding.scale = 1;
  sliding.input_biases = sliding.output_bias = config.flag("attention_bias", false);
  GroupedQueryAttention& full = attention.full = sliding;
  sliding.window_tokens = config.count("sliding_window", kTokensMax);
  full.head_dim = config.count_or("global_head_dim", sliding.head_dim, kWidthMax);
  // transformers reads the number of heads of full layers only together with this flag.
  full.keys_are_values = config.flag("attention_k_eq_v", false);
  const std::uint64_t key_heads = config.count_or("num_global_key_value_heads", sliding.key_heads, kWidthMax);
  if (full.keys_are_values) full.key_heads = key_heads;
  sliding.rope = read_rope_of("sliding_attention", config, sliding.head_dim, {.base = 1e4});
  RopeDefaults defaults{.base = 1e6, .rotary_part = 0.25};
  defaults.proportional = true;
  full.rope = read_rope_of(kFullAttention, config, full.head_dim, defaults);
  return attention;
}

/// The dense feed-forward that every layer has, and the experts beside it.
FeedForward read_gemma_feed_forward(ConfigReader& config) {
  FeedForward result;
  result.dense = DenseFeedForward{config.count("intermediate_size", kWidthMax)};
  if (!config.flag("enable_moe_block", false)) {
    config.ignore({"num_experts", "top_k_experts", "moe_intermediate_size"});
    return result;
  }
  Mixture mixture;
  mixture.experts = config.count("num_experts", kExpertsMax);
  mixture.experts_per_token = config.count_of({"top_k_experts", "num_experts_per_tok"}, kExpertsMax);
  mixture.width = config.count("moe_intermediate_size", kWidthMax);
  mixture.router.renormalise = true;
  mixture.router.own_input = true;
  result.mixture = mixture;
  return result;
}

// ---- LFM2 ----

FullLayers read_lfm2_full_layers(ConfigReader& config, std::uint64_t layers) {
  const auto listed = find_full_layers(config, layers, "conv");
  if (config.find("full_attn_idxs") == nullptr) {
    if (!listed) base::throw_malformed(config.subject(), "key 'layer_types' is missing");
    return *listed;
  }
  FullLayers full(layers);
  for (const std::uint64_t layer : config.indices("full_attn_idxs", layers)) full[layer] = true;
  if (listed && *listed != full) refuse_contradiction(config, "full_attn_idxs");
  return full;
}

}  // namespace

ModelConfig read_qwen3_next(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  Mixture mixture = read_gated_mixture(config);
  mixture.router.renormalise = config.flag("norm_topk_prob", true);
  return read_qwen_hybrid(config, model, read_delta_net(config, DeltaInputs::packed),
                          read_qwen_feed_forwards(config, read_layers(config), mixture));
}

ModelConfig read_qwen3_5_moe(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  Mixture mixture = read_gated_mixture(config);
  mixture.router.renormalise = true;
  config.require("norm_topk_prob", {true});
  // Every layer has experts.
  config.require("mlp_only_layers", {Json::array()});
  config.require("decoder_sparse_step", {1});
  config.ignore({"intermediate_size"});
  return read_qwen_hybrid(config, model, read_delta_net(config, DeltaInputs::separate),
                          std::vector<FeedForward>(read_layers(config), {.dense = {}, .mixture = mixture}));
}

ModelConfig read_gemma4(ConfigReader& config) {
  refuse_other_gemmas(config);
  ModelDescription model = read_model(config, {.epsilon = 1e-6, .tied_embeddings = true});
  config.require("hidden_activation", {"gelu_pytorch_tanh"});
  model.activation = GeluTanh{};
  model.embedding_scale = std::sqrt(static_cast<double>(model.width));
  model.final_soft_cap = config.find_number("final_logit_softcapping", kFactorMin, kFactorMax);
  const GemmaAttention attention = read_gemma_attention(config, model);
  const FeedForward feed_forward = read_gemma_feed_forward(config);
  for (const bool full : read_gemma_full_layers(config, read_layers(config))) {
    model.add_layers(1, {.mixer = full ? attention.full : attention.sliding,
                         .feed_forward = feed_forward,
                         .post_norms = true,
                         .output_scale = true});
  }
  return {.description = std::move(model), .prediction_layers = 0, .skipped_keys = {}};
}

ModelConfig read_lfm2_moe(ConfigReader& config) {
  ModelDescription model =
      read_model(config, {.epsilon = 1e-5, .tied_embeddings = true, .epsilon_key = "norm_eps"});
  // The releases' own spelling counts more in transformers.
  model.tied_embeddings = config.flag("tie_embedding", model.tied_embeddings);
  GroupedQueryAttention attention = read_attention(config, model, {.base = 1e6});
  attention.query_key_norm = QueryKeyNorm::per_head;
  const ShortConvolution convolution{config.count("conv_L_cache", kTokensMax)};
  config.require("conv_bias", {false});
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router = sigmoid_router();
  mixture.router.renormalise = config.flag("norm_topk_prob", true);
  if (mixture.router.renormalise) mixture.router.renormalise_epsilon = 1e-6;
  mixture.router.selection_bias = config.flag("use_expert_bias", true);
  mixture.router.scale = config.number_or("routed_scaling_factor", 1, kFactorMin, kFactorMax);
  const std::uint64_t layers = read_layers(config);
  const std::uint64_t dense_layers = config.number_from_zero("num_dense_layers", 2, kLayersMax);
  const DenseFeedForward dense{config.count("intermediate_size", kWidthMax)};
  const FullLayers full = read_lfm2_full_layers(config, layers);
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    const bool is_dense = layer < dense_layers;
    FeedForward feed_forward;
    if (is_dense) feed_forward.dense = dense;
    if (!is_dense) feed_forward.mixture = mixture;
    model.add_layers(1, {full[layer] ? Mixer(attention) : Mixer(convolution), feed_forward});
  }
  return {.description = std::move(model), .prediction_layers = 0, .skipped_keys = {}};
}

}  // namespace sluice::format
