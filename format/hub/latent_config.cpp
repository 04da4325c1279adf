// Families with latent attention. DeepSeek's configurations came first; the others use most of their keys.
// Mistral's own params.json says the same under other names and in other objects, so it is read here, too,
// and not by mistral_params.h, whose value cannot express it. Defaults are those of the classes in
// transformers, and for params.json those of its converter (convert_mistral4_weight_to_hf.py) and of vLLM
// (transformers_utils/configs/mistral.py). Pure functions; any number of threads may call them.

#include "format/hub/latent_config.h"

#include <cmath>
#include <optional>
#include <string>

#include "base/error.h"
#include "format/hub/config_parts.h"
#include "format/hub/quantization_config.h"
#include "format/hub/rope_config.h"
#include "format/model_limits.h"

namespace sluice::format {
namespace {

// DeepSeek's RMSNorm class has this default, and the norms of the latents are made without another value,
// whatever "rms_norm_eps" says.
constexpr double kLatentEpsilon = 1e-6;

/// YaRN's second factor of the scores, "mscale_all_dim" of the scaling, squared (DeepSeek-V2's published
/// code); 1 without YaRN. The other one, "mscale", is in the rope's cosines and sines.
double yarn_score_factor(ConfigReader& config, const Rope& rope) {
  const auto* yarn = std::get_if<YarnScaling>(&rope.scaling);
  if (yarn == nullptr) return 1;
  std::optional<double> magnitude;
  // read_rope() has found that at least one of them is there.
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* object = config.find(key);
    if (object == nullptr) continue;
    ConfigReader scaling(*object, config.place(key));
    const double mscale = scaling.number_or("mscale_all_dim", 0, 0, kFactorMax);
    const double found = mscale == 0 ? 1 : yarn_magnitude(yarn->factor, mscale);
    if (magnitude && *magnitude != found)
      base::throw_malformed(config.place(key), "says another 'mscale_all_dim' than 'rope_parameters'");
    magnitude = found;
  }
  return *magnitude * *magnitude;
}

/// transformers computes the rotary part of a head from "head_dim" and "partial_rotary_factor"; published
/// files have the rotary part itself as "head_dim", the whole head, or none.
Rope read_latent_rope(ConfigReader& config, std::uint64_t plain_dims, const RopeDefaults& defaults) {
  const std::uint64_t rotary_dims = config.count("qk_rope_head_dim", kWidthMax);
  const std::uint64_t whole_head = plain_dims + rotary_dims;
  // The factor is a quotient of two widths, whose product with one of them may be just below a whole number.
  const auto fits = [&](std::uint64_t dims) {
    return dims == rotary_dims || dims + 1 == rotary_dims || dims == whole_head;
  };
  const std::uint64_t head_dim = config.count_or("head_dim", rotary_dims, kWidthMax);
  Rope rope = read_rope(config, head_dim, defaults);
  if (config.find("head_dim") == nullptr && !fits(rope.rotary_dims))
    rope = read_rope(config, whole_head, defaults);
  if (!fits(rope.rotary_dims)) {
    base::throw_malformed(config.place("head_dim"), "is " + std::to_string(head_dim) + ", of which " +
                                                        std::to_string(rope.rotary_dims) +
                                                        " rotate, but 'qk_rope_head_dim' is " +
                                                        std::to_string(rotary_dims));
  }
  rope.rotary_dims = rotary_dims;
  // DeepSeek's files have pairs of neighbours, also those that transformers has saved.
  rope.style = config.flag("rope_interleave", true) ? RopeStyle::interleaved : RopeStyle::half_split;
  return rope;
}

LatentAttention read_latent_attention(ConfigReader& config, const RopeDefaults& rope = {}) {
  LatentAttention attention;
  attention.heads = config.count("num_attention_heads", kWidthMax);
  // All heads read one latent vector, so the number of heads of keys can only be that of all.
  config.require("num_key_value_heads", {Json(attention.heads)});
  if (config.find("q_lora_rank") != nullptr) attention.query_rank = config.count("q_lora_rank", kWidthMax);
  attention.latent_rank = config.count("kv_lora_rank", kWidthMax);
  attention.plain_dims = config.count("qk_nope_head_dim", kWidthMax);
  attention.value_dims = config.count("v_head_dim", kWidthMax);
  attention.rope = read_latent_rope(config, attention.plain_dims, rope);
  const std::uint64_t query_dims = attention.plain_dims + attention.rope.rotary_dims;
  config.require("qk_head_dim", {Json(query_dims)});
  config.require("attention_bias", {Json(false)});
  return attention;
}

/// The width of queries and keys.
double score_dims(const LatentAttention& attention) {
  return static_cast<double>(attention.plain_dims + attention.rope.rotary_dims);
}

/// DeepSeek's attention: YaRN's magnitude is in the scale, and the norms of the latents have an eps of their
/// own.
LatentAttention read_deepseek_attention(ConfigReader& config) {
  LatentAttention attention = read_latent_attention(config);
  attention.latent_norm_epsilon = kLatentEpsilon;
  if (const double factor = yarn_score_factor(config, attention.rope); factor != 1)
    attention.scale = factor / std::sqrt(score_dims(attention));
  return attention;
}

ModelConfig model_config(ConfigReader& config, ModelDescription model, const LatentAttention& attention,
                         const Mixture& mixture, std::uint64_t dense_layers) {
  for (const FeedForward& feed_forward : read_dense_first(config, mixture, dense_layers))
    model.add_layers(1, {.mixer = attention, .feed_forward = feed_forward});
  // They concern training and how experts are spread over machines.
  config.ignore({"ep_size", "seq_aux"});
  return {.description = std::move(model),
          .prediction_layers = config.number_from_zero("num_nextn_predict_layers", 0, kLayersMax),
          .skipped_keys = {}};
}

/// V2's router: softmax scores; "group_limited_greedy" keeps the groups with the best experts.
Router read_softmax_router(ConfigReader& config) {
  config.require("scoring_func", {"softmax"});
  Router router;
  router.renormalise = config.flag("norm_topk_prob", false);
  const double scale = config.number_or("routed_scaling_factor", 1, kFactorMin, kFactorMax);
  // The published code renormalises or scales, and never does both.
  if (!router.renormalise) router.scale = scale;
  config.require("topk_method", {"greedy", "group_limited_greedy"});
  const Json* method = config.find("topk_method");
  const auto groups = read_groups(config, {.groups = 1, .kept = 1, .score = GroupScore::best});
  if (method != nullptr && *method == Json("group_limited_greedy")) router.groups = groups;
  return router;
}

/// transformers keeps Mistral Small 4's temperature among the rope's parameters, where it shares YaRN's first
/// context.
std::optional<QueryTemperature> read_temperature(ConfigReader& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* object = config.find(key);
    if (object == nullptr) continue;
    ConfigReader rope(*object, config.place(key));
    const double beta = rope.number_or("llama_4_scaling_beta", 0, 0, kFactorMax);
    if (beta == 0) continue;
    return QueryTemperature{beta, rope.count("original_max_position_embeddings", kTokensMax)};
  }
  return std::nullopt;
}

// ---- params.json ----

ConfigReader object_of(ConfigReader& params, std::string_view key) {
  return {*params.find(key), params.place(key)};
}

/// "yarn": its magnitude enters the scale of the scores, squared, unless "apply_scale" is false as in the
/// releases; cosines and sines never have it.
void read_native_yarn(ConfigReader& params, LatentAttention& attention) {
  if (params.find("yarn") == nullptr) return;
  ConfigReader object = object_of(params, "yarn");
  YarnScaling yarn;
  const auto factor = object.find_number("factor", 1, kFactorMax);
  if (!factor) base::throw_malformed(object.subject(), "key 'factor' is missing");
  yarn.factor = *factor;
  yarn.original_context_tokens = object.count("original_max_position_embeddings", kTokensMax);
  yarn.beta_fast = object.number_or("beta", yarn.beta_fast, kFactorMin, kFactorMax);
  yarn.beta_slow = object.number_or("alpha", yarn.beta_slow, kFactorMin, kFactorMax);
  attention.rope.scaling = yarn;
  if (object.flag("apply_scale", true)) {
    const double magnitude = yarn_magnitude(yarn.factor, 1);
    attention.scale = magnitude * magnitude / std::sqrt(score_dims(attention));
  }
  object.refuse_all_others();
}

/// "llama_4_scaling" has a first context of its own, which need not be YaRN's.
void read_native_temperature(ConfigReader& params, LatentAttention& attention) {
  if (params.find("llama_4_scaling") == nullptr) return;
  ConfigReader object = object_of(params, "llama_4_scaling");
  const auto beta = object.find_number("beta", 0, kFactorMax);
  if (!beta) base::throw_malformed(object.subject(), "key 'beta' is missing");
  const std::uint64_t context = object.count("original_max_position_embeddings", kTokensMax);
  if (*beta > 0) attention.query_temperature = QueryTemperature{*beta, context};
  object.refuse_all_others();
}

LatentAttention read_native_attention(ConfigReader& params) {
  LatentAttention attention;
  attention.heads = params.count("n_heads", kWidthMax);
  params.require("n_kv_heads", {Json(attention.heads)});
  if (params.find("q_lora_rank") != nullptr) attention.query_rank = params.count("q_lora_rank", kWidthMax);
  attention.latent_rank = params.count("kv_lora_rank", kWidthMax);
  attention.plain_dims = params.count("qk_nope_head_dim", kWidthMax);
  attention.value_dims = params.count("v_head_dim", kWidthMax);
  attention.latent_norm_epsilon = kLatentEpsilon;
  attention.rope.style = RopeStyle::interleaved;
  attention.rope.rotary_dims = params.count("qk_rope_head_dim", kWidthMax);
  attention.rope.base = params.number_or("rope_theta", 1e4, kRopeBaseMin, kRopeBaseMax);
  read_native_yarn(params, attention);
  read_native_temperature(params, attention);
  // Latent attention has the three widths above instead.
  params.ignore({"head_dim"});
  return attention;
}

/// Softmax over all experts, renormalised, as vLLM and transformers compute it for these files; groups by the
/// sum of their two best.
Mixture read_native_mixture(ConfigReader& moe) {
  Mixture mixture;
  mixture.experts = moe.count("num_experts", kExpertsMax);
  mixture.experts_per_token = moe.count("num_experts_per_tok", kExpertsMax);
  mixture.width = moe.count("expert_hidden_dim", kWidthMax);
  moe.require("renorm_strategy", {"WEIGHTS"});
  moe.require("use_load_balancing_bias", {Json(false)});
  mixture.router.renormalise = true;
  mixture.router.scale = moe.number_or("routed_scale", 1, kFactorMin, kFactorMax);
  const std::uint64_t groups = moe.count_or("num_expert_groups", 1, kExpertsMax);
  const std::uint64_t kept = moe.count_or("num_expert_groups_per_tok", 1, kExpertsMax);
  require_range(kept, groups, "num_expert_groups_per_tok", moe.subject());
  if (kept != groups) mixture.router.groups = RouterGroups{groups, kept, GroupScore::best_two};
  const std::uint64_t shared = moe.number_from_zero("num_shared_experts", 0, kExpertsMax);
  if (shared > 0) mixture.shared = SharedExpert{shared * mixture.width, false};
  // How the experts were spread over machines.
  moe.ignore({"expert_parallel", "expert_model_parallel"});
  return mixture;
}

void add_native_layers(ConfigReader& params, const LatentAttention& attention, ModelConfig& result) {
  const std::uint64_t layers = params.count("n_layers", kLayersMax);
  const DenseFeedForward dense{params.count_or("hidden_dim", 0, kWidthMax)};
  std::optional<Mixture> mixture;
  std::uint64_t dense_layers = layers;
  std::uint64_t step = 1;
  if (params.find("moe") != nullptr) {
    ConfigReader moe = object_of(params, "moe");
    mixture = read_native_mixture(moe);
    dense_layers = moe.number_from_zero("first_k_dense_replace", 0, layers);
    step = moe.count_or("route_every_n", 1, kLayersMax);
    moe.refuse_others(&result.skipped_keys);
  }
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    if (mixture && layer >= dense_layers && layer % step == 0) {
      result.description.add_layers(1,
                                    {.mixer = attention, .feed_forward = {.dense = {}, .mixture = mixture}});
    } else if (dense.width == 0) {
      base::throw_malformed(params.subject(), "key 'hidden_dim' is missing");
    } else {
      result.description.add_layers(1, {.mixer = attention, .feed_forward = {.dense = dense, .mixture = {}}});
    }
  }
}

}  // namespace

ModelConfig read_deepseek_v2(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  const LatentAttention attention = read_deepseek_attention(config);
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router = read_softmax_router(config);
  mixture.shared = read_shared_experts(config, mixture.width, 0);
  return model_config(config, model, attention, mixture, 0);
}

ModelConfig read_deepseek_v3(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  const LatentAttention attention = read_deepseek_attention(config);
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router = read_sigmoid_router(config, {.groups = 8, .kept = 4, .scale = 2.5});
  mixture.shared = read_shared_experts(config, mixture.width, 1);
  return model_config(config, model, attention, mixture, 3);
}

ModelConfig read_glm4_moe_lite(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-5});
  const LatentAttention attention = read_latent_attention(config);
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router = read_sigmoid_router(config, {.groups = 1, .kept = 1, .scale = 1.8});
  mixture.shared = read_shared_experts(config, mixture.width, 1);
  return model_config(config, model, attention, mixture, 1);
}

ModelConfig read_mistral4(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  LatentAttention attention = read_latent_attention(config, {.query_temperature = true});
  // transformers makes the norms of the latents without the configuration's value, and the scale of the
  // scores without YaRN's.
  attention.latent_norm_epsilon = kLatentEpsilon;
  attention.query_temperature = read_temperature(config);
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  config.require("scoring_func", {"softmax"});
  config.ignore({"topk_method"});
  mixture.router.renormalise = config.flag("norm_topk_prob", true);
  mixture.router.scale = config.number_or("routed_scaling_factor", 1, kFactorMin, kFactorMax);
  mixture.router.groups = read_groups(config, {});
  mixture.shared = read_shared_experts(config, mixture.width, 1);
  return model_config(config, model, attention, mixture, 0);
}

bool has_mistral_latent(const Json& params) {
  return params.find("dim") != nullptr && params.find("kv_lora_rank") != nullptr;
}

ModelConfig read_mistral_latent(ConfigReader& config) {
  ModelConfig result;
  ModelDescription& model = result.description;
  model.width = config.count("dim", kWidthMax);
  model.vocabulary = config.count("vocab_size", kVocabularyMax);
  const auto epsilon = config.find_number("norm_eps", kEpsilonMin, kEpsilonMax);
  if (!epsilon) base::throw_malformed(config.subject(), "key 'norm_eps' is missing");
  model.norm.epsilon = *epsilon;
  model.tied_embeddings = config.flag("tied_embeddings", false);
  config.require("activation", {"silu"});
  const LatentAttention attention = read_native_attention(config);
  add_native_layers(config, attention, result);
  if (const Json* quantization = config.find("quantization"))
    check_mistral_quantization(*quantization, config.place("quantization"));
  // The tower's tensors are left out by their names.
  config.ignore({"vision_encoder", "multimodal"});
  return result;
}

}  // namespace sluice::format
