#include "format/hub/config_parts.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "format/model_limits.h"

namespace sluice::format {

ModelDescription read_model(ConfigReader& config, const ModelDefaults& defaults) {
  ModelDescription model;
  model.width = config.count("hidden_size", kWidthMax);
  model.vocabulary = config.count("vocab_size", kVocabularyMax);
  model.norm.epsilon = config.number_or(defaults.epsilon_key, defaults.epsilon, kEpsilonMin, kEpsilonMax);
  model.tied_embeddings = config.flag("tie_word_embeddings", defaults.tied_embeddings);
  config.require("hidden_act", {"silu", "swish"});
  return model;
}

GroupedQueryAttention read_heads(ConfigReader& config, const ModelDescription& model) {
  GroupedQueryAttention attention;
  attention.heads = config.count("num_attention_heads", kWidthMax);
  attention.key_heads = config.count_or("num_key_value_heads", attention.heads, kWidthMax);
  if (config.find("head_dim") != nullptr) {
    attention.head_dim = config.count("head_dim", kWidthMax);
  } else if (model.width % attention.heads == 0) {
    attention.head_dim = model.width / attention.heads;
  } else {
    base::throw_malformed(config.subject(), "has no 'head_dim', and 'hidden_size' " +
                                                std::to_string(model.width) + " does not divide by " +
                                                std::to_string(attention.heads) + " heads");
  }
  return attention;
}

GroupedQueryAttention read_attention(ConfigReader& config, const ModelDescription& model,
                                     const RopeDefaults& rope) {
  GroupedQueryAttention attention = read_heads(config, model);
  attention.rope = read_rope(config, attention.head_dim, rope);
  return attention;
}

std::uint64_t read_layers(ConfigReader& config) { return config.count("num_hidden_layers", kLayersMax); }

const std::vector<Json>* find_layer_types(ConfigReader& config, std::uint64_t layers) {
  const Json* types = config.find("layer_types");
  if (types == nullptr) return nullptr;
  const auto& list = types->as_array(config.place("layer_types"));
  if (list.size() != layers) {
    base::throw_malformed(config.place("layer_types"), "has " + std::to_string(list.size()) +
                                                           " layers, but 'num_hidden_layers' is " +
                                                           std::to_string(layers));
  }
  return &list;
}

Mixture read_mixture(ConfigReader& config, std::string_view width) {
  Mixture mixture;
  // transformers knows the number under all three names, and writes any of them.
  mixture.experts = config.count_of({"num_experts", "num_local_experts", "n_routed_experts"}, kExpertsMax);
  mixture.experts_per_token = config.count("num_experts_per_tok", kExpertsMax);
  mixture.width = config.count(width, kWidthMax);
  return mixture;
}

std::vector<FeedForward> read_qwen_feed_forwards(ConfigReader& config, std::uint64_t layers,
                                                 const Mixture& mixture) {
  const auto dense_layers = config.indices("mlp_only_layers", layers);
  const std::uint64_t step = config.count_or("decoder_sparse_step", 1, kLayersMax);
  // A file without dense layers may leave their width out.
  const DenseFeedForward dense{config.count_or("intermediate_size", 0, kWidthMax)};
  std::vector<FeedForward> feed_forwards;
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    const bool named = std::ranges::find(dense_layers, layer) != dense_layers.end();
    const bool is_dense = named || (layer + 1) % step != 0;
    if (is_dense && dense.width == 0)
      base::throw_malformed(config.subject(), "key 'intermediate_size' is missing");
    if (is_dense) {
      feed_forwards.push_back({.dense = dense, .mixture = {}});
    } else {
      feed_forwards.push_back({.dense = {}, .mixture = mixture});
    }
  }
  return feed_forwards;
}

std::optional<RouterGroups> read_groups(ConfigReader& config, const GroupDefaults& defaults) {
  const std::uint64_t groups = config.count_or("n_group", defaults.groups, kExpertsMax);
  const std::uint64_t kept = config.count_or("topk_group", defaults.kept, kExpertsMax);
  require_range(kept, groups, "topk_group", config.subject());
  if (kept == groups) return std::nullopt;
  return RouterGroups{groups, kept, defaults.score};
}

Router sigmoid_router() {
  Router router;
  router.score = RouterScore::sigmoid;
  router.renormalise = true;
  router.selection_bias = true;
  return router;
}

Router read_sigmoid_router(ConfigReader& config, const SigmoidRouterDefaults& defaults) {
  config.require("scoring_func", {"sigmoid"});
  config.require("topk_method", {"noaux_tc"});
  Router router = sigmoid_router();
  router.renormalise = config.flag("norm_topk_prob", true);
  router.scale = config.number_or("routed_scaling_factor", defaults.scale, kFactorMin, kFactorMax);
  router.groups = read_groups(config, {.groups = defaults.groups, .kept = defaults.kept});
  return router;
}

std::optional<SharedExpert> read_shared_experts(ConfigReader& config, std::uint64_t width,
                                                std::uint64_t count) {
  const std::uint64_t shared = config.number_from_zero("n_shared_experts", count, kExpertsMax);
  if (shared == 0) return std::nullopt;
  return SharedExpert{shared * width, false};
}

namespace {

/// Whether each layer is dense.
std::vector<bool> dense_layers_of(ConfigReader& config, std::uint64_t layers, std::uint64_t dense_layers) {
  dense_layers = config.number_from_zero("first_k_dense_replace", dense_layers, layers);
  const std::uint64_t step = config.count_or("moe_layer_freq", 1, kLayersMax);
  std::vector<bool> dense;
  for (std::uint64_t layer = 0; layer < layers; ++layer)
    dense.push_back(layer < dense_layers || layer % step != 0);
  const Json* types = config.find("mlp_layer_types");
  if (types == nullptr) return dense;
  const auto& list = types->as_array(config.place("mlp_layer_types"));
  if (list.size() != layers) {
    base::throw_malformed(config.place("mlp_layer_types"), "has " + std::to_string(list.size()) +
                                                               " layers, but 'num_hidden_layers' is " +
                                                               std::to_string(layers));
  }
  for (std::size_t layer = 0; layer < list.size(); ++layer) {
    dense[layer] = list[layer] == Json("dense");
    if (!dense[layer] && list[layer] != Json("sparse"))
      refuse_value(config.subject(), "mlp_layer_types", list[layer], "dense or sparse");
  }
  return dense;
}

}  // namespace

std::vector<FeedForward> read_dense_first(ConfigReader& config, const Mixture& mixture,
                                          std::uint64_t dense_layers) {
  const std::uint64_t layers = read_layers(config);
  // A file without dense layers may leave their width out.
  const DenseFeedForward dense{config.count_or("intermediate_size", 0, kWidthMax)};
  std::vector<FeedForward> feed_forwards;
  for (const bool is_dense : dense_layers_of(config, layers, dense_layers)) {
    if (is_dense && dense.width == 0)
      base::throw_malformed(config.subject(), "key 'intermediate_size' is missing");
    if (is_dense) {
      feed_forwards.push_back({.dense = dense, .mixture = {}});
    } else {
      feed_forwards.push_back({.dense = {}, .mixture = mixture});
    }
  }
  return feed_forwards;
}

}  // namespace sluice::format
