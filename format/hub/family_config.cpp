// The readers of the families. Each reads like the config.json of its family: the keys that all of them share
// first, then its own. Defaults are those of the family's class in transformers (configuration_*.py), which
// count where a file leaves a key out; sizes must be given. Keys that nobody reads are judged by
// config_keys.h. Pure functions; any number of threads may call them.

#include "format/hub/family_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "format/hub/architecture.h"
#include "format/hub/config_parts.h"
#include "format/hub/hybrid_config.h"
#include "format/hub/latent_config.h"
#include "format/hub/quantization_config.h"
#include "format/hub/rope_config.h"
#include "format/mistral_params.h"
#include "format/model_limits.h"

namespace sluice::format {
namespace {

// ---- What the families share ----

LayerDescription layer_of(const GroupedQueryAttention& attention, const Mixture& mixture) {
  return {attention, {.dense = {}, .mixture = mixture}};
}

/// For families whose layers are all equal.
ModelConfig uniform(ModelDescription model, std::uint64_t layers, const GroupedQueryAttention& attention,
                    const Mixture& mixture) {
  model.add_layers(layers, layer_of(attention, mixture));
  return {.description = std::move(model), .prediction_layers = 0, .skipped_keys = {}};
}

// ---- Qwen ----

/// The family's rule of which layers have a window; "layer_types" replaces it.
using WindowRule = bool (*)(std::uint64_t layer, std::uint64_t max_window_layers);
/// The window of each layer in tokens; nothing where a layer has none.
using Windows = std::vector<std::optional<std::uint64_t>>;

void read_layer_types(ConfigReader& config, std::uint64_t window, Windows& windows) {
  const auto* types = find_layer_types(config, windows.size());
  if (types == nullptr) return;
  for (std::size_t layer = 0; layer < types->size(); ++layer) {
    const Json& type = (*types)[layer];
    const bool windowed = window > 0 && type == Json("sliding_attention");
    if (!windowed && type != Json("full_attention")) {
      refuse_value(config.subject(), "layer_types", type,
                   window > 0 ? "full_attention or sliding_attention"
                              : "full_attention, because 'use_sliding_window' is false");
    }
    windows[layer] = windowed ? std::optional(window) : std::nullopt;
  }
}

Windows read_windows(ConfigReader& config, std::uint64_t layers, WindowRule has_window) {
  const bool used = config.flag("use_sliding_window", false);
  const std::uint64_t width = config.number_from_zero("sliding_window", 0, kTokensMax);
  if (used && width == 0)
    base::throw_malformed(config.place("sliding_window"), "is missing, but 'use_sliding_window' is true");
  // The default of transformers' classes.
  const std::uint64_t max_window_layers = config.number_from_zero("max_window_layers", 28, UINT32_MAX);
  Windows windows(layers);
  for (std::uint64_t layer = 0; layer < layers; ++layer)
    if (used && has_window(layer, max_window_layers)) windows[layer] = width;
  read_layer_types(config, used ? width : 0, windows);
  return windows;
}

/// Qwen2-MoE and Qwen3-MoE.
ModelConfig read_qwen(ConfigReader& config, ModelDescription model, GroupedQueryAttention attention,
                      const Mixture& mixture, WindowRule has_window) {
  const std::uint64_t layers = read_layers(config);
  const auto feed_forwards = read_qwen_feed_forwards(config, layers, mixture);
  const Windows windows = read_windows(config, layers, has_window);
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    attention.window_tokens = windows[layer];
    model.add_layers(1, {attention, feed_forwards[layer]});
  }
  return {.description = std::move(model), .prediction_layers = 0, .skipped_keys = {}};
}

/// Qwen3-30B-A3B, 235B-A22B, Coder. arXiv 2505.09388.
ModelConfig read_qwen3_moe(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  GroupedQueryAttention attention = read_attention(config, model);
  attention.query_key_norm = QueryKeyNorm::per_head;
  attention.input_biases = attention.output_bias = config.flag("attention_bias", false);
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router.renormalise = config.flag("norm_topk_prob", false);
  return read_qwen(config, model, attention, mixture, [](std::uint64_t, std::uint64_t) { return true; });
}

/// Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B. arXiv 2407.10671.
ModelConfig read_qwen2_moe(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  GroupedQueryAttention attention = read_attention(config, model);
  attention.input_biases = config.flag("qkv_bias", true);
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router.renormalise = config.flag("norm_topk_prob", false);
  mixture.shared = SharedExpert{config.count("shared_expert_intermediate_size", kWidthMax), true};
  // Every other one of the first layers.
  return read_qwen(config, model, attention, mixture,
                   [](std::uint64_t layer, std::uint64_t max_window_layers) {
                     return layer % 2 == 0 && layer < max_window_layers;
                   });
}

// ---- The others ----

/// arXiv 2409.02060.
ModelConfig read_olmoe(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-5});
  GroupedQueryAttention attention = read_attention(config, model);
  attention.query_key_norm = QueryKeyNorm::full_width;
  attention.input_biases = attention.output_bias = config.flag("attention_bias", false);
  attention.clip = config.find_number("clip_qkv", kFactorMin, kFactorMax);
  Mixture mixture = read_mixture(config, "intermediate_size");
  mixture.router.renormalise = config.flag("norm_topk_prob", false);
  return uniform(model, read_layers(config), attention, mixture);
}

/// Granite 3, with shared experts where the file has "shared_intermediate_size" (granitemoeshared).
ModelConfig read_granite_moe(ConfigReader& config) {
  ModelDescription model = read_model(config, {.epsilon = 1e-6});
  model.embedding_scale = config.number_or("embedding_multiplier", 1, kFactorMin, kFactorMax);
  model.residual_scale = config.number_or("residual_multiplier", 1, kFactorMin, kFactorMax);
  // Logits are divided by it.
  model.logits_scale = 1 / config.number_or("logits_scaling", 1, kFactorMin, kFactorMax);
  GroupedQueryAttention attention = read_attention(config, model);
  attention.scale = config.number_or("attention_multiplier", 1, kFactorMin, kFactorMax);
  attention.input_biases = attention.output_bias = config.flag("attention_bias", false);
  config.require("position_embedding_type", {"rope"});
  Mixture mixture = read_mixture(config, "intermediate_size");
  // The softmax is taken over the logits of the chosen experts.
  mixture.router.renormalise = true;
  if (const auto shared = config.number_from_zero("shared_intermediate_size", 0, kWidthMax); shared > 0)
    mixture.shared = SharedExpert{shared, false};
  return uniform(model, read_layers(config), attention, mixture);
}

/// GLM-4.5, 4.6 and 4.7. arXiv 2508.06471.
ModelConfig read_glm4_moe(ConfigReader& config) {
  ModelDescription model = read_model(config, {.epsilon = 1e-5});
  GroupedQueryAttention attention = read_attention(config, model, {.base = 1e4, .rotary_part = 0.5});
  attention.input_biases = config.flag("attention_bias", false);
  if (config.flag("use_qk_norm", false)) attention.query_key_norm = QueryKeyNorm::per_head;
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router = read_sigmoid_router(config, {});
  mixture.shared = read_shared_experts(config, mixture.width, 1);
  for (const FeedForward& feed_forward : read_dense_first(config, mixture, 1))
    model.add_layers(1, {attention, feed_forward});
  return {.description = std::move(model),
          .prediction_layers = config.number_from_zero("num_nextn_predict_layers", 0, kLayersMax),
          .skipped_keys = {}};
}

/// The part of a head that rotates: "rotary_dim" of the releases, else the factor that transformers writes.
void read_rotary_dim(ConfigReader& config, GroupedQueryAttention& attention) {
  if (config.find("rotary_dim") == nullptr) return;
  const std::uint64_t dims = config.count("rotary_dim", attention.head_dim);
  const std::uint64_t from_factor = attention.rope->rotary_dims;
  if (from_factor != attention.head_dim && from_factor != dims) {
    base::throw_malformed(config.place("rotary_dim"),
                          "is " + std::to_string(dims) + ", but 'partial_rotary_factor' makes it " +
                              std::to_string(from_factor) + " of " + std::to_string(attention.head_dim));
  }
  attention.rope->rotary_dims = dims;
}

/// M2 to M2.7: lightning attention, which earlier models have in most layers, is type 0 of "attn_type_list".
void require_softmax_attention(ConfigReader& config) {
  const Json* types = config.find("attn_type_list");
  if (types == nullptr) return;
  for (const Json& type : types->as_array(config.place("attn_type_list")))
    if (type != Json(1)) refuse_value(config.subject(), "attn_type_list", type, "1 for every layer");
}

/// MiniMax-M2.
ModelConfig read_minimax_m2(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  GroupedQueryAttention attention = read_attention(config, model, {.base = 5e6, .rotary_part = 1});
  read_rotary_dim(config, attention);
  require_softmax_attention(config);
  // "per_layer": over all heads of a layer at once.
  config.require("qk_norm_type", {"per_layer"});
  if (config.flag("use_qk_norm", true)) attention.query_key_norm = QueryKeyNorm::full_width;
  Mixture mixture = read_mixture(config, "intermediate_size");
  config.require("scoring_func", {"sigmoid"});
  mixture.router = sigmoid_router();
  mixture.router.selection_bias = config.flag("use_routing_bias", true);
  // There are no shared experts and no dense layers, so what is said about them has no effect.
  config.require("shared_intermediate_size", {0});
  config.ignore({"shared_moe_mode", "mlp_intermediate_size"});
  ModelConfig result = uniform(model, read_layers(config), attention, mixture);
  // Releases leave the modules for further tokens out; a file that has them names them behind the layers.
  config.ignore({"use_mtp"});
  result.prediction_layers = config.number_from_zero("num_mtp_modules", 0, kLayersMax) *
                             config.number_from_zero("mtp_transformer_layers", 1, kLayersMax);
  return result;
}

// ---- gpt-oss ----

/// YaRN, which transformers takes for the family where a file names no scaling.
YarnScaling default_yarn_of_gpt_oss() {
  return {.factor = 32,
          .original_context_tokens = 4096,
          .beta_fast = 32,
          .beta_slow = 1,
          .round_ramp = false,
          .cos_sin_factor = yarn_magnitude(32, 1)};
}

void read_gpt_oss_rope(ConfigReader& config, Rope& rope) {
  if (config.find("rope_scaling") == nullptr && config.find("rope_parameters") == nullptr)
    rope.scaling = default_yarn_of_gpt_oss();
  // OpenAI's own code reads the number under this name.
  const std::uint64_t context = config.count_or("initial_context_length", 0, kTokensMax);
  const auto* yarn = std::get_if<YarnScaling>(&rope.scaling);
  if (context != 0 && yarn != nullptr && yarn->original_context_tokens != context) {
    base::throw_malformed(config.place("initial_context_length"),
                          "is " + std::to_string(context) + ", but the RoPE scaling begins at " +
                              std::to_string(yarn->original_context_tokens));
  }
}

/// gpt-oss-20b and 120b. arXiv 2508.10925.
ModelConfig read_gpt_oss(ConfigReader& config) {
  ModelDescription model = read_model(config, {.epsilon = 1e-5});
  ClampedSwiglu swiglu;
  swiglu.limit = config.number_or("swiglu_limit", swiglu.limit, kFactorMin, kFactorMax);
  swiglu.alpha = config.number_or("swiglu_alpha", swiglu.alpha, kFactorMin, kFactorMax);
  model.activation = swiglu;
  GroupedQueryAttention attention = read_attention(config, model, {.base = 1.5e5, .rotary_part = 1});
  read_gpt_oss_rope(config, *attention.rope);
  attention.input_biases = attention.output_bias = config.flag("attention_bias", true);
  attention.sinks = true;
  Mixture mixture;
  mixture.experts = config.count_of({"num_local_experts", "num_experts"}, kExpertsMax);
  mixture.experts_per_token = config.count_of({"num_experts_per_tok", "experts_per_token"}, kExpertsMax);
  mixture.width = config.count("intermediate_size", kWidthMax);
  mixture.expert_biases = true;
  // The softmax is taken over the logits of the chosen experts.
  mixture.router.renormalise = true;
  mixture.router.logit_bias = true;
  const std::uint64_t window = config.count_or("sliding_window", 128, kTokensMax);
  Windows windows(read_layers(config));
  for (std::size_t layer = 0; layer < windows.size(); layer += 2) windows[layer] = window;
  read_layer_types(config, window, windows);
  for (const auto& tokens : windows) {
    attention.window_tokens = tokens;
    model.add_layers(1, layer_of(attention, mixture));
  }
  return {.description = std::move(model), .prediction_layers = 0, .skipped_keys = {}};
}

constexpr std::array kFamilies{
    HubFamily{"mixtral", "MixtralForCausalLM"},
    HubFamily{"mistral", "MistralForCausalLM"},
    HubFamily{"qwen3_moe", "Qwen3MoeForCausalLM", read_qwen3_moe},
    HubFamily{"qwen2_moe", "Qwen2MoeForCausalLM", read_qwen2_moe},
    HubFamily{"olmoe", "OlmoeForCausalLM", read_olmoe},
    HubFamily{"granitemoe", "GraniteMoeForCausalLM", read_granite_moe},
    HubFamily{"granitemoeshared", "GraniteMoeSharedForCausalLM", read_granite_moe},
    HubFamily{"glm4_moe", "Glm4MoeForCausalLM", read_glm4_moe},
    HubFamily{"minimax_m2", "MiniMaxM2ForCausalLM", read_minimax_m2},
    HubFamily{"qwen3_next", "Qwen3NextForCausalLM", read_qwen3_next},
    HubFamily{"qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", read_qwen3_5_moe},
    HubFamily{"qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", read_qwen3_5_moe},
    HubFamily{"gemma4", "Gemma4ForConditionalGeneration", read_gemma4},
    HubFamily{"gemma4_text", "Gemma4ForCausalLM", read_gemma4},
    HubFamily{"lfm2_moe", "Lfm2MoeForCausalLM", read_lfm2_moe},
    HubFamily{"deepseek_v2", "DeepseekV2ForCausalLM", read_deepseek_v2},
    HubFamily{"deepseek_v3", "DeepseekV3ForCausalLM", read_deepseek_v3},
    HubFamily{"kimi_k2", "KimiK2ForCausalLM", read_deepseek_v3},
    HubFamily{"kimi_k25", "KimiK25ForConditionalGeneration", read_deepseek_v3},
    HubFamily{"glm4_moe_lite", "Glm4MoeLiteForCausalLM", read_glm4_moe_lite},
    HubFamily{"mistral4", "Mistral4ForCausalLM", read_mistral4},
    HubFamily{"mistral3", "Mistral3ForConditionalGeneration", read_mistral4},
    HubFamily{"gpt_oss", "GptOssForCausalLM", read_gpt_oss},
};

// ---- Models that see and hear, too ----

constexpr const char* kTextConfig = "text_config";

void check_quantization(ConfigReader& config) {
  if (const Json* quantization = config.find("quantization_config"))
    check_quantization_config(*quantization, config.place("quantization_config"));
}

/// The keys of the text part, in an object of their own. transformers ties the head of the whole model, so
/// that the flag may stand outside alone.
Json text_part(ConfigReader& whole) {
  Json text = *whole.find(kTextConfig);
  static_cast<void>(text.as_object(whole.place(kTextConfig)));
  const Json* tied = whole.find("tie_word_embeddings");
  if (tied == nullptr) return text;
  const Json* inner = text.find("tie_word_embeddings");
  if (inner != nullptr && !inner->is_null() && *inner != *tied)
    refuse_value(whole.place(kTextConfig), "tie_word_embeddings", *inner, tied->dump() + " as outside of it");
  text.set("tie_word_embeddings", *tied);
  return text;
}

/// Keys outside of the text part that concern images and sound, and where they stand among tokens.
void ignore_other_parts(ConfigReader& whole) {
  whole.ignore({kTextConfig, "vision_config", "audio_config", "vision_soft_tokens_per_image",
                "mm_tokens_per_image", "image_seq_length", "image_token_index", "video_token_index",
                "boi_token_index", "eoi_token_index", "boa_token_index", "eoa_token_index", "ignore_index",
                "multimodal_projector_bias", "projector_hidden_act", "spatial_merge_size",
                "use_unified_vision_chunk", "vision_feature_layer"});
}

ModelConfig read_family(const HubFamily& family, ConfigReader& config) {
  ModelConfig result = family.read(config);
  check_quantization(config);
  // These checks come last, so that a missing or wrong key is reported before an unknown one.
  config.refuse_others(&result.skipped_keys);
  return result;
}

/// The text part may name its own architecture, which says more than that of the whole.
ModelConfig read_text_part(const HubFamily& family, ConfigReader& whole) {
  const Json text = text_part(whole);
  const std::string place = whole.place(kTextConfig);
  require_supported_architecture(text, place);
  const HubFamily* inner = find_family(text, place);
  ConfigReader config(text, place);
  ModelConfig result = read_family(inner != nullptr && inner->read != nullptr ? *inner : family, config);
  check_quantization(whole);
  ignore_other_parts(whole);
  whole.refuse_others(&result.skipped_keys);
  return result;
}

}  // namespace

std::span<const HubFamily> hub_families() { return kFamilies; }

ModelConfig parse_model_config(std::string_view text, std::string_view subject) {
  const Json json = parse_json(text, subject);
  static_cast<void>(json.as_object(subject));
  require_supported_architecture(json, subject);
  const HubFamily* family = find_family(json, subject);
  ModelConfig result;
  if (has_mistral_latent(json)) {
    ConfigReader params(json, std::string(subject));
    result = read_family({"", "", read_mistral_latent}, params);
    validate(result.description, subject);
    return result;
  }
  if (family == nullptr || family->read == nullptr) {
    result.description = describe(parse_params(text, subject, &result.skipped_keys));
    return result;
  }
  ConfigReader config(json, std::string(subject));
  result =
      config.find(kTextConfig) != nullptr ? read_text_part(*family, config) : read_family(*family, config);
  validate(result.description, subject);
  return result;
}

}  // namespace sluice::format
