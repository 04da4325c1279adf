#pragma once
// The sizes of a described model as the forward pass needs them: its layers one by one, the different ropes,
// and what follows from them.

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "format/model_description.h"

namespace sluice::runtime {

/// What a layer keeps of each position, in heads with a key and a value each.
struct KeyValueShape {
  std::uint64_t heads = 0;        ///< 0: the layer keeps no position
  std::uint64_t width = 0;        ///< of a key
  std::uint64_t value_width = 0;  ///< of a value
};

/// What a layer keeps of all positions together; see runtime/memory/recurrent_state.h.
struct RecurrentShape {
  std::uint64_t inputs = 0;    ///< past tokens whose inputs a causal convolution needs
  std::uint64_t channels = 0;  ///< of this convolution
  std::uint64_t heads = 0;     ///< with a matrix each
  std::uint64_t rows = 0;      ///< of a matrix
  std::uint64_t columns = 0;   ///< of a matrix
};

/// A mixer, then a dense feed-forward, a mixture of experts, or both.
struct LayerShape {
  format::Mixer mixer;
  RecurrentShape recurrent;
  std::optional<std::size_t> rope;       ///< index into DecoderShape::ropes; absent: no positions
  std::optional<format::Router> router;  ///< absent: a dense layer, computed as one expert without a router
  std::uint64_t experts = 1;
  std::uint64_t experts_per_token = 1;
  std::uint64_t hidden_width = 0;  ///< of the dense feed-forward, or of one expert
  bool expert_biases = false;
  std::optional<format::SharedExpert> shared;
  std::uint64_t dense_width = 0;  ///< of a dense feed-forward in addition to experts; 0: there is none
  bool post_norms = false;
  bool output_scale = false;

  /// The mixer, which must be this one.
  [[nodiscard]] const format::GroupedQueryAttention& attention() const {
    return std::get<format::GroupedQueryAttention>(mixer);
  }
  [[nodiscard]] const format::LatentAttention& latent_attention() const {
    return std::get<format::LatentAttention>(mixer);
  }
  [[nodiscard]] KeyValueShape key_values() const;
  [[nodiscard]] bool has_own_router_input() const { return router && router->own_input; }
  /// Whether dense feed-forward and mixture have input and output norms of their own.
  [[nodiscard]] bool has_separate_norms() const { return post_norms && dense_width > 0; }
  /// Positions that a position sees, itself included; absent: all before it.
  [[nodiscard]] std::optional<std::uint64_t> window_tokens() const;
};

struct DecoderShape {
  std::uint64_t width = 0;  ///< of the residual stream
  std::uint64_t vocabulary = 0;
  double norm_epsilon = 0;
  bool norm_weights_plus_one = false;
  bool tied_embeddings = false;  ///< the head's tiles are the embedding, too
  double embedding_scale = 1;
  double residual_scale = 1;
  double logits_scale = 1;
  std::optional<double> final_soft_cap;
  format::Activation activation;
  std::vector<LayerShape> layers;
  std::vector<format::Rope> ropes;  ///< the different ones of all layers

  /// Whether the feed-forwards of the layer are read through the expert cache when the model does not fit
  /// into memory. Where other layers have experts, a dense feed-forward stays in memory: every token reads
  /// it, and it is often as large as ten experts, which would make every slot of the cache as large.
  [[nodiscard]] bool streams_experts(std::size_t layer) const;
  /// The largest value of some property of a layer.
  template <typename F>
  [[nodiscard]] std::uint64_t largest(F property) const {
    std::uint64_t most = 0;
    for (const LayerShape& layer : layers) {
      const std::uint64_t value = property(layer);
      if (value > most) most = value;
    }
    return most;
  }
};

/// The shape of a description that format::validate() has passed. Every description can be computed;
/// `subject` names the model in the error that a new field without code would need.
[[nodiscard]] DecoderShape require_supported(const format::ModelDescription& description,
                                             std::string_view subject);

}  // namespace sluice::runtime
