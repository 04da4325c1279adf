#pragma once
// Parts of a config.json that families share: the model's sizes, its attention and its experts. Each reader
// of a family puts them together and changes what its family does otherwise (family_config.h).

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "format/hub/config_reader.h"
#include "format/hub/rope_config.h"
#include "format/model_description.h"

namespace sluice::format {

/// Values that hold for a family when its config.json does not give them, and the names of keys in which
/// families differ.
struct ModelDefaults {
  double epsilon = 1e-6;
  bool tied_embeddings = false;
  std::string_view epsilon_key = "rms_norm_eps";
};

/// Width, vocabulary, norm, head, and SiLU as the activation.
[[nodiscard]] ModelDescription read_model(ConfigReader& config, const ModelDefaults& defaults);

/// Heads, without rope, norms, biases and windows. A head is as wide as "head_dim" says, else as wide as the
/// model divided by the number of heads.
[[nodiscard]] GroupedQueryAttention read_heads(ConfigReader& config, const ModelDescription& model);
/// Heads and one rope for all layers.
[[nodiscard]] GroupedQueryAttention read_attention(ConfigReader& config, const ModelDescription& model,
                                                   const RopeDefaults& rope = {});

/// "num_hidden_layers".
[[nodiscard]] std::uint64_t read_layers(ConfigReader& config);
/// The list "layer_types"; nullptr where it is missing. Error{malformed} unless it has `layers` entries.
[[nodiscard]] const std::vector<Json>* find_layer_types(ConfigReader& config, std::uint64_t layers);

/// The experts and how many of them a token uses; `width` is the key of an expert's width.
[[nodiscard]] Mixture read_mixture(ConfigReader& config, std::string_view width);
/// The feed-forward of each layer of Qwen's models: experts, unless "mlp_only_layers" names the layer or
/// "decoder_sparse_step" leaves it out.
[[nodiscard]] std::vector<FeedForward> read_qwen_feed_forwards(ConfigReader& config, std::uint64_t layers,
                                                               const Mixture& mixture);

// ---- What DeepSeek's models and GLM-4.5 share ----

/// Values of a family's groups of experts where its config.json gives none.
struct GroupDefaults {
  std::uint64_t groups = 1;
  std::uint64_t kept = 1;
  GroupScore score = GroupScore::best_two;
};

/// "n_group" and "topk_group"; nothing where no group is left out.
[[nodiscard]] std::optional<RouterGroups> read_groups(ConfigReader& config, const GroupDefaults& defaults);

/// DeepSeek-V3's router (arXiv 2412.19437, section 2.1.2): sigmoid scores, and a bias for choosing.
[[nodiscard]] Router sigmoid_router();

struct SigmoidRouterDefaults {
  std::uint64_t groups = 1;
  std::uint64_t kept = 1;
  double scale = 1;
};

/// sigmoid_router() with its groups, its scale and whether weights are renormalised.
[[nodiscard]] Router read_sigmoid_router(ConfigReader& config, const SigmoidRouterDefaults& defaults);

/// "n_shared_experts" of `width` each, which are computed as one of their summed width; nothing for 0.
[[nodiscard]] std::optional<SharedExpert> read_shared_experts(ConfigReader& config, std::uint64_t width,
                                                              std::uint64_t count);

/// The feed-forward of each layer: dense ones first, as many as "first_k_dense_replace" says, then experts in
/// every layer, or in each that "moe_layer_freq" divides. "mlp_layer_types" replaces both.
[[nodiscard]] std::vector<FeedForward> read_dense_first(ConfigReader& config, const Mixture& mixture,
                                                        std::uint64_t dense_layers);

}  // namespace sluice::format
