// The list of a model's tensors. kRoles says for each role everything that does not depend on the model;
// LayerTensors walks through a layer in the order of the forward pass and adds what its description asks for.
//
// The order is part of the container's format: tensors lie in it, and a directory in any other order is
// refused. A new role or a new mechanism must therefore not move the tensors of models that exist. Shapes are
// [out, in] as in model_description.h. Pure functions; any number of threads may call them.

#include "format/model_tensors.h"

#include <algorithm>
#include <array>

#include "base/invariant.h"

namespace sluice::format {
namespace {

struct RoleFacts {
  TensorRole role;
  std::string_view name;  ///< native; behind "layers.N." unless is_of_model(); '*' is the expert's number
  QuantizationClass quantization;
  MatrixInput input;
};

using enum QuantizationClass;
using Input = MatrixInput;

// Mistral's names where Mistral has a tensor of the kind (Mixtral, Mistral Small 4), else in their manner.
constexpr std::array kRoles{
    RoleFacts{TensorRole::embedding, "tok_embeddings.weight", embedding, Input::none},
    RoleFacts{TensorRole::final_norm, "norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::head, "output.weight", head, Input::head},
    RoleFacts{TensorRole::mixer_norm, "attention_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::mixer_post_norm, "attention_post_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::query, "attention.wq.weight", attention, Input::mixer},
    RoleFacts{TensorRole::query_bias, "attention.wq.bias", unquantized, Input::none},
    RoleFacts{TensorRole::key, "attention.wk.weight", attention, Input::mixer},
    RoleFacts{TensorRole::key_bias, "attention.wk.bias", unquantized, Input::none},
    RoleFacts{TensorRole::value, "attention.wv.weight", attention, Input::mixer},
    RoleFacts{TensorRole::value_bias, "attention.wv.bias", unquantized, Input::none},
    RoleFacts{TensorRole::query_norm, "attention.q_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::key_norm, "attention.k_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::sinks, "attention.sinks", unquantized, Input::none},
    RoleFacts{TensorRole::attention_output, "attention.wo.weight", attention, Input::mixer_result},
    RoleFacts{TensorRole::attention_output_bias, "attention.wo.bias", unquantized, Input::none},
    RoleFacts{TensorRole::query_latent, "attention.wq_a.weight", attention, Input::mixer},
    RoleFacts{TensorRole::query_latent_norm, "attention.q_a_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::latent_query, "attention.wq_b.weight", attention, Input::query_latent},
    RoleFacts{TensorRole::key_value_latent, "attention.wkv_a_with_mqa.weight", attention, Input::mixer},
    RoleFacts{TensorRole::key_value_latent_norm, "attention.kv_a_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::latent_key_value, "attention.wkv_b.weight", attention, Input::key_value_latent},
    RoleFacts{TensorRole::delta_query_key_value, "delta.wqkv.weight", attention, Input::mixer},
    RoleFacts{TensorRole::delta_gate, "delta.wz.weight", attention, Input::mixer},
    RoleFacts{TensorRole::delta_beta, "delta.wb.weight", unquantized, Input::none},
    RoleFacts{TensorRole::delta_decay, "delta.wa.weight", unquantized, Input::none},
    RoleFacts{TensorRole::delta_packed, "delta.wqkvz.weight", attention, Input::mixer},
    RoleFacts{TensorRole::delta_packed_beta_decay, "delta.wba.weight", unquantized, Input::none},
    RoleFacts{TensorRole::delta_convolution, "delta.conv.weight", unquantized, Input::none},
    RoleFacts{TensorRole::delta_decay_rate, "delta.a_log", unquantized, Input::none},
    RoleFacts{TensorRole::delta_time_bias, "delta.dt_bias", unquantized, Input::none},
    RoleFacts{TensorRole::delta_norm, "delta.norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::delta_output, "delta.wo.weight", attention, Input::mixer_result},
    RoleFacts{TensorRole::convolution_input, "conv.wi.weight", attention, Input::mixer},
    RoleFacts{TensorRole::convolution_kernel, "conv.conv.weight", unquantized, Input::none},
    RoleFacts{TensorRole::convolution_output, "conv.wo.weight", attention, Input::mixer_result},
    RoleFacts{TensorRole::feed_forward_norm, "ffn_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::feed_forward_post_norm, "ffn_post_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::router, "feed_forward.gate.weight", unquantized, Input::none},
    RoleFacts{TensorRole::router_bias, "feed_forward.gate.bias", unquantized, Input::none},
    RoleFacts{TensorRole::router_selection_bias, "feed_forward.gate.selection_bias", unquantized,
              Input::none},
    RoleFacts{TensorRole::router_expert_scale, "feed_forward.gate.expert_scale", unquantized, Input::none},
    RoleFacts{TensorRole::router_input_scale, "feed_forward.gate.input_scale", unquantized, Input::none},
    RoleFacts{TensorRole::experts_norm, "feed_forward.experts_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::experts_post_norm, "feed_forward.experts_post_norm.weight", unquantized,
              Input::none},
    RoleFacts{TensorRole::dense_post_norm, "feed_forward.dense_post_norm.weight", unquantized, Input::none},
    RoleFacts{TensorRole::expert_gate, "feed_forward.experts.*.w1.weight", feed_forward, Input::feed_forward},
    RoleFacts{TensorRole::expert_gate_bias, "feed_forward.experts.*.w1.bias", unquantized, Input::none},
    RoleFacts{TensorRole::expert_up, "feed_forward.experts.*.w3.weight", feed_forward, Input::feed_forward},
    RoleFacts{TensorRole::expert_up_bias, "feed_forward.experts.*.w3.bias", unquantized, Input::none},
    RoleFacts{TensorRole::expert_down, "feed_forward.experts.*.w2.weight", feed_forward, Input::hidden},
    RoleFacts{TensorRole::expert_down_bias, "feed_forward.experts.*.w2.bias", unquantized, Input::none},
    RoleFacts{TensorRole::shared_router, "feed_forward.shared_gate.weight", unquantized, Input::none},
    RoleFacts{TensorRole::shared_gate, "feed_forward.shared.w1.weight", feed_forward, Input::feed_forward},
    RoleFacts{TensorRole::shared_up, "feed_forward.shared.w3.weight", feed_forward, Input::feed_forward},
    RoleFacts{TensorRole::shared_down, "feed_forward.shared.w2.weight", feed_forward, Input::hidden},
    RoleFacts{TensorRole::dense_gate, "feed_forward.w1.weight", feed_forward, Input::feed_forward},
    RoleFacts{TensorRole::dense_up, "feed_forward.w3.weight", feed_forward, Input::feed_forward},
    RoleFacts{TensorRole::dense_down, "feed_forward.w2.weight", feed_forward, Input::hidden},
    RoleFacts{TensorRole::output_scale, "output_scale", unquantized, Input::none},
};

// The table is written by hand, and facts_of() trusts the position of each row.
constexpr bool in_order() {
  for (std::size_t i = 0; i < kRoles.size(); ++i)
    if (static_cast<std::size_t>(kRoles[i].role) != i) return false;
  return true;
}
static_assert(in_order(), "kRoles is indexed by role");
static_assert(kRoles.size() == static_cast<std::size_t>(TensorRole::output_scale) + 1);

const RoleFacts& facts_of(TensorRole role) { return kRoles[static_cast<std::size_t>(role)]; }

bool is_of_model(TensorRole role) { return role <= TensorRole::head; }

ModelTensor make_tensor(TensorRole role, Shape shape, std::uint64_t layer = 0,
                        std::optional<std::uint64_t> expert = {}) {
  const RoleFacts& facts = facts_of(role);
  return {tensor_name(role, layer, expert.value_or(0)),
          std::move(shape),
          role,
          facts.quantization,
          facts.input,
          layer,
          expert};
}

/// Adds the tensors of one layer.
class LayerTensors final {
 public:
  LayerTensors(const ModelDescription& description, std::uint64_t layer, std::vector<ModelTensor>& out)
      : width_(description.width), description_(description.layer(layer)), layer_(layer), out_(out) {}

  /// The order in which a forward pass needs the tensors, so that a container is read from front to back.
  void add_all() {
    add(TensorRole::mixer_norm, {width_});
    std::visit([this](const auto& mixer) { add_mixer(mixer); }, description_.mixer);
    if (description_.post_norms) add(TensorRole::mixer_post_norm, {width_});
    add(TensorRole::feed_forward_norm, {width_});
    if (description_.feed_forward.mixture) add_mixture(*description_.feed_forward.mixture);
    if (description_.feed_forward.dense) add_dense(*description_.feed_forward.dense);
    if (description_.post_norms) add(TensorRole::feed_forward_post_norm, {width_});
    if (description_.output_scale) add(TensorRole::output_scale, {1});
  }

  void add_expert(std::uint64_t expert) {
    const auto& mixture = description_.feed_forward.mixture;
    if (!mixture) return add_dense(*description_.feed_forward.dense);
    // Gate, up, down, each with its bias: the order of use within an expert, and that of its extent in a
    // container.
    const std::size_t first = out_.size();
    add(TensorRole::expert_gate, {mixture->width, width_}, expert);
    if (mixture->expert_biases) add(TensorRole::expert_gate_bias, {mixture->width}, expert);
    add(TensorRole::expert_up, {mixture->width, width_}, expert);
    if (mixture->expert_biases) add(TensorRole::expert_up_bias, {mixture->width}, expert);
    add(TensorRole::expert_down, {width_, mixture->width}, expert);
    if (mixture->expert_biases) add(TensorRole::expert_down_bias, {width_}, expert);
    read_experts_norm(first);
  }

 private:
  void add(TensorRole role, Shape shape, std::optional<std::uint64_t> expert = {}) {
    out_.push_back(make_tensor(role, std::move(shape), layer_, expert));
  }

  void add_mixer(const GroupedQueryAttention& mixer) {
    const std::uint64_t query_rows = mixer.heads * mixer.head_dim;
    const std::uint64_t key_rows = mixer.key_heads * mixer.head_dim;
    // The output gate is computed by the query matrix: query and gate, head by head.
    const std::uint64_t gated_rows = mixer.output_gate ? 2 * query_rows : query_rows;
    add(TensorRole::query, {gated_rows, width_});
    if (mixer.input_biases) add(TensorRole::query_bias, {gated_rows});
    add(TensorRole::key, {key_rows, width_});
    if (mixer.input_biases) add(TensorRole::key_bias, {key_rows});
    if (!mixer.keys_are_values) add(TensorRole::value, {key_rows, width_});
    if (!mixer.keys_are_values && mixer.input_biases) add(TensorRole::value_bias, {key_rows});
    if (mixer.query_key_norm != QueryKeyNorm::none) {
      const bool full = mixer.query_key_norm == QueryKeyNorm::full_width;
      add(TensorRole::query_norm, {full ? query_rows : mixer.head_dim});
      add(TensorRole::key_norm, {full ? key_rows : mixer.head_dim});
    }
    if (mixer.sinks) add(TensorRole::sinks, {mixer.heads});
    add(TensorRole::attention_output, {width_, query_rows});
    if (mixer.output_bias) add(TensorRole::attention_output_bias, {width_});
  }

  void add_mixer(const LatentAttention& mixer) {
    const std::uint64_t query_rows = mixer.heads * (mixer.plain_dims + mixer.rope.rotary_dims);
    // Where queries are made in two steps, a narrow latent vector with a norm of its own lies between them.
    if (mixer.query_rank) {
      add(TensorRole::query_latent, {*mixer.query_rank, width_});
      add(TensorRole::query_latent_norm, {*mixer.query_rank});
      add(TensorRole::latent_query, {query_rows, *mixer.query_rank});
    } else {
      add(TensorRole::query, {query_rows, width_});
    }
    // One matrix makes the latent vector and the rotary part of the keys, which all heads share (DeepSeek-V2,
    // arXiv 2405.04434, section 2.1).
    add(TensorRole::key_value_latent, {mixer.latent_rank + mixer.rope.rotary_dims, width_});
    add(TensorRole::key_value_latent_norm, {mixer.latent_rank});
    add(TensorRole::latent_key_value,
        {mixer.heads * (mixer.plain_dims + mixer.value_dims), mixer.latent_rank});
    add(TensorRole::attention_output, {width_, mixer.heads * mixer.value_dims});
  }

  void add_mixer(const GatedDeltaNet& mixer) {
    const std::uint64_t value_rows = mixer.value_heads * mixer.value_dim;
    // The convolution runs over queries, keys and values; queries have the heads of the keys (arXiv
    // 2412.06464).
    const std::uint64_t channels = 2 * mixer.key_heads * mixer.key_dim + value_rows;
    // The two forms group the same rows into different matrices; a container keeps the grouping that was
    // released.
    if (mixer.inputs == DeltaInputs::packed) {
      add(TensorRole::delta_packed, {channels + value_rows, width_});
      add(TensorRole::delta_packed_beta_decay, {2 * mixer.value_heads, width_});
    } else {
      add(TensorRole::delta_query_key_value, {channels, width_});
      add(TensorRole::delta_gate, {value_rows, width_});
      add(TensorRole::delta_beta, {mixer.value_heads, width_});
      add(TensorRole::delta_decay, {mixer.value_heads, width_});
    }
    add(TensorRole::delta_convolution, {channels, mixer.convolution_tokens});
    add(TensorRole::delta_decay_rate, {mixer.value_heads});
    add(TensorRole::delta_time_bias, {mixer.value_heads});
    add(TensorRole::delta_norm, {mixer.value_dim});
    add(TensorRole::delta_output, {width_, value_rows});
  }

  void add_mixer(const ShortConvolution& mixer) {
    // The matrix makes two gates and the values.
    add(TensorRole::convolution_input, {3 * width_, width_});
    add(TensorRole::convolution_kernel, {width_, mixer.convolution_tokens});
    add(TensorRole::convolution_output, {width_, width_});
  }

  void add_mixture(const Mixture& mixture) {
    add(TensorRole::router, {mixture.experts, width_});
    if (mixture.router.logit_bias) add(TensorRole::router_bias, {mixture.experts});
    if (mixture.router.selection_bias) add(TensorRole::router_selection_bias, {mixture.experts});
    if (mixture.router.own_input) {
      add(TensorRole::router_input_scale, {width_});
      add(TensorRole::router_expert_scale, {mixture.experts});
    }
    if (has_norm_for_experts()) add(TensorRole::experts_norm, {width_});
    for (std::uint64_t expert = 0; expert < mixture.experts; ++expert) add_expert(expert);
    if (has_norm_for_experts()) add(TensorRole::experts_post_norm, {width_});
    if (!mixture.shared) return;
    if (mixture.shared->gate) add(TensorRole::shared_router, {1, width_});
    const std::size_t first = out_.size();
    add(TensorRole::shared_gate, {mixture.shared->width, width_});
    add(TensorRole::shared_up, {mixture.shared->width, width_});
    add(TensorRole::shared_down, {width_, mixture.shared->width});
    read_experts_norm(first);
  }

  /// Where the mixture has a norm of its own, its matrices read other activations than the dense
  /// feed-forward.
  void read_experts_norm(std::size_t first) {
    if (!has_norm_for_experts()) return;
    for (std::size_t i = first; i < out_.size(); ++i)
      if (out_[i].input == MatrixInput::feed_forward) out_[i].input = MatrixInput::experts;
  }

  void add_dense(const DenseFeedForward& dense) {
    // A dense layer counts as one expert, which every token uses; next to a mixture its matrices belong to no
    // expert.
    const auto expert = description_.feed_forward.mixture ? std::nullopt : std::optional<std::uint64_t>(0);
    add(TensorRole::dense_gate, {dense.width, width_}, expert);
    add(TensorRole::dense_up, {dense.width, width_}, expert);
    add(TensorRole::dense_down, {width_, dense.width}, expert);
    if (has_norm_for_experts()) add(TensorRole::dense_post_norm, {width_});
  }

  /// Layers with post norms and with both kinds of feed-forward normalize the two separately.
  [[nodiscard]] bool has_norm_for_experts() const {
    return description_.post_norms && description_.feed_forward.dense && description_.feed_forward.mixture;
  }

  std::uint64_t width_;
  const LayerDescription& description_;
  std::uint64_t layer_;
  std::vector<ModelTensor>& out_;
};

}  // namespace

std::vector<ModelTensor> model_tensors(const ModelDescription& description) {
  std::vector<ModelTensor> tensors;
  tensors.push_back(make_tensor(TensorRole::embedding, {description.vocabulary, description.width}));
  // With tied embeddings the head is the embedding, which stands in the list once. It is stored as a head is,
  // since every token multiplies all of it and reads one row of it
  // (docs/decisions/0028-tied-embeddings-are-stored-as-the-head.md).
  if (description.tied_embeddings) {
    tensors.back().quantization = quantization_of(TensorRole::head);
    tensors.back().input = MatrixInput::head;
  }
  for (std::uint64_t layer = 0; layer < description.layer_count(); ++layer)
    LayerTensors(description, layer, tensors).add_all();
  tensors.push_back(make_tensor(TensorRole::final_norm, {description.width}));
  if (!description.tied_embeddings)
    tensors.push_back(make_tensor(TensorRole::head, {description.vocabulary, description.width}));
  return tensors;
}

std::vector<ModelTensor> expert_tensors(const ModelDescription& description, std::uint64_t layer,
                                        std::uint64_t expert) {
  std::vector<ModelTensor> tensors;
  LayerTensors(description, layer, tensors).add_expert(expert);
  return tensors;
}

std::uint64_t expert_count(const LayerDescription& layer) {
  return layer.feed_forward.mixture ? layer.feed_forward.mixture->experts : 1;
}

std::uint64_t experts_per_token(const LayerDescription& layer) {
  return layer.feed_forward.mixture ? layer.feed_forward.mixture->experts_per_token : 1;
}

std::string tensor_name(TensorRole role, std::uint64_t layer, std::uint64_t expert) {
  const std::string_view name = facts_of(role).name;
  if (is_of_model(role)) return std::string(name);
  std::string full = "layers." + std::to_string(layer) + ".";
  const std::size_t star = name.find('*');
  if (star == std::string_view::npos) return full += name;
  full += name.substr(0, star);
  full += std::to_string(expert);
  return full += name.substr(star + 1);
}

/// "layers.*.feed_forward.experts.*.w1.weight" -> "w1".
std::string_view matrix_label(TensorRole role) {
  std::string_view name = facts_of(role).name;
  name = name.substr(0, name.rfind('.'));
  return name.substr(name.rfind('.') + 1);
}

QuantizationClass quantization_of(TensorRole role) { return facts_of(role).quantization; }

}  // namespace sluice::format
