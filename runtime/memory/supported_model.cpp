#include "runtime/memory/supported_model.h"

#include <algorithm>
#include <optional>
#include <string>
#include <variant>

#include "base/error.h"

namespace sluice::runtime {
namespace {

using namespace format;

RecurrentShape recurrent_shape(const Mixer& mixer, std::uint64_t width) {
  if (const auto* net = std::get_if<GatedDeltaNet>(&mixer))
    return {net->convolution_tokens - 1,
            2 * net->key_heads * net->key_dim + net->value_heads * net->value_dim, net->value_heads,
            net->key_dim, net->value_dim};
  if (const auto* convolution = std::get_if<ShortConvolution>(&mixer))
    return {convolution->convolution_tokens - 1, width, 0, 0, 0};
  return {};
}

std::optional<Rope> rope_of(const Mixer& mixer) {
  if (const auto* attention = std::get_if<GroupedQueryAttention>(&mixer)) return attention->rope;
  if (const auto* attention = std::get_if<LatentAttention>(&mixer)) return attention->rope;
  return std::nullopt;
}

LayerShape layer_shape(const LayerDescription& layer, std::uint64_t width, std::vector<Rope>& ropes) {
  LayerShape shape;
  shape.mixer = layer.mixer;
  shape.recurrent = recurrent_shape(layer.mixer, width);
  if (const auto rope = rope_of(layer.mixer)) {
    const auto found = std::ranges::find(ropes, *rope);
    shape.rope = static_cast<std::size_t>(found - ropes.begin());
    if (found == ropes.end()) ropes.push_back(*rope);
  }
  shape.post_norms = layer.post_norms;
  shape.output_scale = layer.output_scale;
  if (const auto& mixture = layer.feed_forward.mixture) {
    shape.router = mixture->router;
    shape.experts = mixture->experts;
    shape.experts_per_token = mixture->experts_per_token;
    shape.hidden_width = mixture->width;
    shape.expert_biases = mixture->expert_biases;
    shape.shared = mixture->shared;
    if (layer.feed_forward.dense) shape.dense_width = layer.feed_forward.dense->width;
  } else {
    shape.hidden_width = layer.feed_forward.dense->width;
  }
  return shape;
}

}  // namespace

KeyValueShape LayerShape::key_values() const {
  if (const auto* latent = std::get_if<LatentAttention>(&mixer))
    return {1, latent->latent_rank, latent->rope.rotary_dims};
  const auto* grouped = std::get_if<GroupedQueryAttention>(&mixer);
  if (grouped == nullptr) return {};
  return {grouped->key_heads, grouped->head_dim, grouped->head_dim};
}

std::optional<std::uint64_t> LayerShape::window_tokens() const {
  const auto* grouped = std::get_if<GroupedQueryAttention>(&mixer);
  return grouped != nullptr ? grouped->window_tokens : std::nullopt;
}

bool DecoderShape::streams_experts(std::size_t layer) const {
  return layers[layer].router ||
         std::ranges::none_of(layers, [](const LayerShape& other) { return other.router.has_value(); });
}

DecoderShape require_supported(const ModelDescription& description, std::string_view) {
  DecoderShape shape;
  shape.width = description.width;
  shape.vocabulary = description.vocabulary;
  shape.norm_epsilon = description.norm.epsilon;
  shape.norm_weights_plus_one = description.norm.weights == NormWeights::plus_one;
  shape.tied_embeddings = description.tied_embeddings;
  shape.embedding_scale = description.embedding_scale;
  shape.residual_scale = description.residual_scale;
  shape.logits_scale = description.logits_scale;
  shape.final_soft_cap = description.final_soft_cap;
  shape.activation = description.activation;
  for (std::uint64_t i = 0; i < description.layer_count(); ++i)
    shape.layers.push_back(layer_shape(description.layer(i), description.width, shape.ropes));
  return shape;
}

}  // namespace sluice::runtime
