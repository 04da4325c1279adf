#pragma once
// Parts of a config.json that families share: the model's sizes, its attention and its experts. Each reader
// of a family puts them together and changes what its family does otherwise (family_config.h).

#include <cstdint>
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

/// DeepSeek-V3's router (arXiv 2412.19437, section 2.1.2): sigmoid scores, and a bias for choosing.
[[nodiscard]] Router sigmoid_router();

}  // namespace sluice::format
