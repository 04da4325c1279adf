#include "format/hub/latent_config.h"

#include <cmath>
#include <optional>
#include <string>

#include "base/error.h"
#include "format/hub/config_parts.h"
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
Rope read_latent_rope(ConfigReader& config, std::uint64_t plain_dims) {
  const std::uint64_t rotary_dims = config.count("qk_rope_head_dim", kWidthMax);
  const std::uint64_t head_dim = config.count_or("head_dim", rotary_dims, kWidthMax);
  Rope rope = read_rope(config, head_dim, {});
  if (rope.rotary_dims != rotary_dims && rope.rotary_dims != plain_dims + rotary_dims) {
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

LatentAttention read_latent_attention(ConfigReader& config) {
  LatentAttention attention;
  attention.heads = config.count("num_attention_heads", kWidthMax);
  // All heads read one latent vector, so the number of heads of keys can only be that of all.
  config.require("num_key_value_heads", {Json(attention.heads)});
  if (config.find("q_lora_rank") != nullptr) attention.query_rank = config.count("q_lora_rank", kWidthMax);
  attention.latent_rank = config.count("kv_lora_rank", kWidthMax);
  attention.plain_dims = config.count("qk_nope_head_dim", kWidthMax);
  attention.value_dims = config.count("v_head_dim", kWidthMax);
  attention.rope = read_latent_rope(config, attention.plain_dims);
  const std::uint64_t query_dims = attention.plain_dims + attention.rope.rotary_dims;
  config.require("qk_head_dim", {Json(query_dims)});
  config.require("attention_bias", {Json(false)});
  if (const double factor = yarn_score_factor(config, attention.rope); factor != 1)
    attention.scale = factor / std::sqrt(static_cast<double>(query_dims));
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

}  // namespace

ModelConfig read_deepseek_v2(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  LatentAttention attention = read_latent_attention(config);
  attention.latent_norm_epsilon = kLatentEpsilon;
  Mixture mixture = read_mixture(config, "moe_intermediate_size");
  mixture.router = read_softmax_router(config);
  mixture.shared = read_shared_experts(config, mixture.width, 0);
  return model_config(config, model, attention, mixture, 0);
}

ModelConfig read_deepseek_v3(ConfigReader& config) {
  const ModelDescription model = read_model(config, {.epsilon = 1e-6});
  LatentAttention attention = read_latent_attention(config);
  attention.latent_norm_epsilon = kLatentEpsilon;
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

}  // namespace sluice::format
