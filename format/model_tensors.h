#pragma once
// Which tensors a model has, what each of them is, and its native name: what a checkpoint must hold and a
// container holds. All of it follows from the ModelDescription.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/model_description.h"
#include "format/tensor.h"

namespace sluice::format {

/// A role says which part of its layer, or of the model, a tensor is. A matrix is named by what it makes.
enum class TensorRole : std::uint8_t {
  embedding,
  final_norm,
  head,

  mixer_norm,
  mixer_post_norm,  ///< LayerDescription::post_norms

  // grouped-query attention
  query,
  query_bias,
  key,
  key_bias,
  value,
  value_bias,
  query_norm,
  key_norm,
  sinks,             ///< [heads]
  attention_output,  ///< also of latent attention
  attention_output_bias,

  // latent attention
  query_latent,  ///< from the layer's input, where queries are made in two steps
  query_latent_norm,
  latent_query,      ///< from the query latent
  key_value_latent,  ///< and the shared rotary part of the keys below it
  key_value_latent_norm,
  latent_key_value,  ///< from the latent: plain keys and values, head by head

  // gated delta net
  delta_query_key_value,
  delta_gate,
  delta_beta,
  delta_decay,
  delta_packed,  ///< DeltaInputs::packed: query, key, value, gate
  delta_packed_beta_decay,
  delta_convolution,  ///< [channels, tokens]
  delta_decay_rate,   ///< "A_log" [value heads]
  delta_time_bias,    ///< "dt_bias" [value heads]
  delta_norm,
  delta_output,

  // short convolution
  convolution_input,
  convolution_kernel,  ///< [channels, tokens]
  convolution_output,

  // feed-forward
  feed_forward_norm,
  feed_forward_post_norm,
  router,       ///< [experts, width]
  router_bias,  ///< [experts], like the next two
  router_selection_bias,
  router_expert_scale,  ///< Router::own_input
  router_input_scale,   ///< [width], Router::own_input
  experts_norm,         ///< input norm of the mixture where the layer has a dense feed-forward, too
  experts_post_norm,
  dense_post_norm,
  expert_gate,
  expert_gate_bias,
  expert_up,
  expert_up_bias,
  expert_down,
  expert_down_bias,
  shared_router,  ///< [1, width], SharedExpert::gate
  shared_gate,
  shared_up,
  shared_down,
  dense_gate,
  dense_up,
  dense_down,

  output_scale,  ///< [1], LayerDescription::output_scale
};

/// A class decides how its tensors are stored: convert chooses a type for each class.
enum class QuantizationClass : std::uint8_t {
  unquantized,   ///< f32, row-major: norms, routers, biases, and other small tensors
  embedding,     ///< bf16, row-major
  attention,     ///< matrices of the mixers
  feed_forward,  ///< matrices of experts and of dense feed-forwards
  head,
};

/// The activations that a matrix multiplies, in its layer. Matrices of a layer with the same input share it,
/// except for `hidden`.
enum class MatrixInput : std::uint8_t {
  none,  ///< no matrix product reads activations through it
  mixer,
  mixer_result,
  query_latent,
  key_value_latent,
  feed_forward,  ///< of dense, router, shared and other experts alike
  experts,       ///< of all experts, shared ones too, where the mixture has a norm of its own
  hidden,        ///< between up and down: other activations for each expert
  head,
};

struct ModelTensor {
  std::string name;  ///< native
  Shape shape;       ///< [out, in] for matrices
  TensorRole role = TensorRole::final_norm;
  QuantizationClass quantization = QuantizationClass::unquantized;
  MatrixInput input = MatrixInput::none;
  std::uint64_t layer = 0;  ///< 0 for those that are of no layer
  /// The expert of its layer that it belongs to. The only feed-forward of a dense layer counts as expert 0:
  /// it lies and is read like one. Shared experts and a dense feed-forward in addition to experts are of
  /// none.
  std::optional<std::uint64_t> expert;

  [[nodiscard]] bool is_matrix() const { return input != MatrixInput::none; }
};

/// A matrix of an expert: what most of a model's weights are.
[[nodiscard]] inline bool is_expert_matrix(const ModelTensor& tensor) {
  return tensor.expert && tensor.is_matrix();
}

/// All tensors in the order in which a forward pass needs them, which is their order in a container. The
/// tensors of an expert stand together.
[[nodiscard]] std::vector<ModelTensor> model_tensors(const ModelDescription& description);

/// The tensors of one expert in order of their use: for Mixtral gate, up, down.
[[nodiscard]] std::vector<ModelTensor> expert_tensors(const ModelDescription& description,
                                                      std::uint64_t layer, std::uint64_t expert);

/// How many experts a layer has, and how many of them a token uses: 1 and 1 for a dense layer.
[[nodiscard]] std::uint64_t expert_count(const LayerDescription& layer);
[[nodiscard]] std::uint64_t experts_per_token(const LayerDescription& layer);

/// The native name. `layer` and `expert` count where the role has them.
[[nodiscard]] std::string tensor_name(TensorRole role, std::uint64_t layer = 0, std::uint64_t expert = 0);
/// "wq", "w1": the native name of a matrix within its block, as reports show it.
[[nodiscard]] std::string_view matrix_label(TensorRole role);
[[nodiscard]] QuantizationClass quantization_of(TensorRole role);

}  // namespace sluice::format
