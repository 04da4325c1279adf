// The names of tensors in the layouts of releases, as tables and a few rules (docs/checkpoints.md,
// "Layouts"). Only roles of families whose configuration is read have names here (hub/family_config.h);
// model_tensors.h knows more roles than can be found in files today. Pure functions; any number of threads
// may call them.

#include "format/tensor_names.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/bytes.h"
#include "base/error.h"
#include "format/tile.h"

namespace sluice::format {
namespace {

/// How a tensor of the files holds one of the model's.
enum class Packing : std::uint8_t {
  whole,            ///< alone; '*' in the name is the number of the expert
  experts,          ///< those of all experts of a layer, along a first axis
  experts_gate_up,  ///< the same with gate above up: [experts, 2 x width, model width]
  gate_up,          ///< gate above up, of one feed-forward
  channels,         ///< a kernel of a convolution: [channels, 1, tokens] instead of [channels, tokens]
  // gpt-oss, whose experts have biases: gate and up take turns output by output, and matrices of floats are
  // [in, out].
  experts_turns,             ///< biases of gate and up: [experts, 2 x width]
  experts_turns_transposed,  ///< [experts, model width, 2 x width]
  experts_transposed,        ///< [experts, width, model width]
  experts_turns_mxfp4,       ///< codes [experts, 2 x width, model width / 32, 16], and exponents
  experts_mxfp4,             ///< codes [experts, model width, width / 32, 16], and exponents
};

/// Where the layers have norms that a name depends on (LayerDescription::post_norms).
enum class Norms : std::uint8_t {
  any,
  inputs,              ///< of mixer and feed-forward, before them alone
  inputs_and_results,  ///< and behind them
};

/// A name that tensors of a role have, behind the prefix of their layer where the role is of a layer. A role
/// has several: the usual one comes first.
struct Pattern {
  TensorRole role;
  std::string_view name;
  Packing packing = Packing::whole;
  Norms norms = Norms::any;
};

using enum TensorRole;
using enum Packing;

// huggingface/transformers. Families differ in what they call a mixture and its experts: "mlp" (Qwen, OLMoE,
// GLM), "block_sparse_moe" (Mixtral, MiniMax, Granite), "feed_forward" (LFM2), or nothing (Gemma). Version 5
// makes one tensor of the experts of a layer (conversion_mapping.py), and Granite always did. Both kinds
// occur for every family. Names of the model stand behind its root (HubRoot), the head's behind that of the
// head.
constexpr auto kHubPatterns = std::to_array<Pattern>({
    {embedding, "embed_tokens.weight"},
    {final_norm, "norm.weight"},
    {final_norm, "embedding_norm.weight"},
    {head, "lm_head.weight"},
    {mixer_norm, "input_layernorm.weight"},
    {mixer_norm, "operator_norm.weight"},
    {mixer_post_norm, "post_attention_layernorm.weight"},
    {query, "self_attn.q_proj.weight"},
    {query_bias, "self_attn.q_proj.bias"},
    {query_norm, "self_attn.q_norm.weight"},
    {query_norm, "self_attn.q_layernorm.weight"},
    {sinks, "self_attn.sinks"},
    {key, "self_attn.k_proj.weight"},
    {key_bias, "self_attn.k_proj.bias"},
    {key_norm, "self_attn.k_norm.weight"},
    {key_norm, "self_attn.k_layernorm.weight"},
    {value, "self_attn.v_proj.weight"},
    {value_bias, "self_attn.v_proj.bias"},
    {attention_output, "self_attn.o_proj.weight"},
    {attention_output, "self_attn.out_proj.weight"},
    {attention_output_bias, "self_attn.o_proj.bias"},
    {delta_query_key_value, "linear_attn.in_proj_qkv.weight"},
    {delta_gate, "linear_attn.in_proj_z.weight"},
    {delta_beta, "linear_attn.in_proj_b.weight"},
    {delta_decay, "linear_attn.in_proj_a.weight"},
    {delta_packed, "linear_attn.in_proj_qkvz.weight"},
    {delta_packed_beta_decay, "linear_attn.in_proj_ba.weight"},
    {delta_convolution, "linear_attn.conv1d.weight", channels},
    {delta_decay_rate, "linear_attn.A_log"},
    {delta_time_bias, "linear_attn.dt_bias"},
    {delta_norm, "linear_attn.norm.weight"},
    {delta_output, "linear_attn.out_proj.weight"},
    {convolution_input, "conv.in_proj.weight"},
    {convolution_kernel, "conv.conv.weight", channels},
    {convolution_output, "conv.out_proj.weight"},
    {feed_forward_norm, "post_attention_layernorm.weight", whole, Norms::inputs},
    {feed_forward_norm, "ffn_norm.weight", whole, Norms::inputs},
    {feed_forward_norm, "pre_feedforward_layernorm.weight", whole, Norms::inputs_and_results},
    {feed_forward_post_norm, "post_feedforward_layernorm.weight"},
    {experts_norm, "pre_feedforward_layernorm_2.weight"},
    {experts_post_norm, "post_feedforward_layernorm_2.weight"},
    {dense_post_norm, "post_feedforward_layernorm_1.weight"},
    {output_scale, "layer_scalar"},
    {query_latent, "self_attn.q_a_proj.weight"},
    {query_latent_norm, "self_attn.q_a_layernorm.weight"},
    {latent_query, "self_attn.q_b_proj.weight"},
    {key_value_latent, "self_attn.kv_a_proj_with_mqa.weight"},
    {key_value_latent_norm, "self_attn.kv_a_layernorm.weight"},
    {latent_key_value, "self_attn.kv_b_proj.weight"},
    {router, "block_sparse_moe.gate.weight"},
    {router, "mlp.gate.weight"},
    {router, "block_sparse_moe.router.layer.weight"},
    {router, "feed_forward.gate.weight"},
    {router, "router.proj.weight"},
    {router_input_scale, "router.scale"},
    {router_expert_scale, "router.per_expert_scale"},
    {router, "mlp.router.weight"},
    {router_bias, "mlp.router.bias"},
    {router_selection_bias, "mlp.gate.e_score_correction_bias"},
    {router_selection_bias, "block_sparse_moe.e_score_correction_bias"},
    {router_selection_bias, "mlp.e_score_correction_bias"},
    {router_selection_bias, "block_sparse_moe.gate.e_score_correction_bias"},
    {router_selection_bias, "feed_forward.expert_bias"},
    {expert_gate, "block_sparse_moe.experts.*.w1.weight"},
    {expert_gate, "mlp.experts.*.gate_proj.weight"},
    {expert_gate, "mlp.experts.gate_up_proj", experts_gate_up},
    {expert_gate, "block_sparse_moe.experts.gate_up_proj", experts_gate_up},
    {expert_gate, "block_sparse_moe.input_linear.weight", experts_gate_up},
    {expert_gate, "feed_forward.experts.*.w1.weight"},
    {expert_gate, "feed_forward.experts.gate_up_proj", experts_gate_up},
    {expert_gate, "experts.*.gate_proj.weight"},
    {expert_gate, "experts.gate_up_proj", experts_gate_up},
    {expert_gate, "mlp.experts.gate_up_proj_blocks", experts_turns_mxfp4},
    {expert_gate, "mlp.experts.gate_up_proj", experts_turns_transposed},
    {expert_gate_bias, "mlp.experts.gate_up_proj_bias", experts_turns},
    {expert_up, "block_sparse_moe.experts.*.w3.weight"},
    {expert_up, "mlp.experts.*.up_proj.weight"},
    {expert_up, "mlp.experts.gate_up_proj", experts_gate_up},
    {expert_up, "block_sparse_moe.experts.gate_up_proj", experts_gate_up},
    {expert_up, "block_sparse_moe.input_linear.weight", experts_gate_up},
    {expert_up, "feed_forward.experts.*.w3.weight"},
    {expert_up, "feed_forward.experts.gate_up_proj", experts_gate_up},
    {expert_up, "experts.*.up_proj.weight"},
    {expert_up, "experts.gate_up_proj", experts_gate_up},
    {expert_up, "mlp.experts.gate_up_proj_blocks", experts_turns_mxfp4},
    {expert_up, "mlp.experts.gate_up_proj", experts_turns_transposed},
    {expert_up_bias, "mlp.experts.gate_up_proj_bias", experts_turns},
    {expert_down, "block_sparse_moe.experts.*.w2.weight"},
    {expert_down, "mlp.experts.*.down_proj.weight"},
    {expert_down, "mlp.experts.down_proj", experts},
    {expert_down, "block_sparse_moe.experts.down_proj", experts},
    {expert_down, "block_sparse_moe.output_linear.weight", experts},
    {expert_down, "feed_forward.experts.*.w2.weight"},
    {expert_down, "feed_forward.experts.down_proj", experts},
    {expert_down, "experts.*.down_proj.weight"},
    {expert_down, "experts.down_proj", experts},
    {expert_down, "mlp.experts.down_proj_blocks", experts_mxfp4},
    {expert_down, "mlp.experts.down_proj", experts_transposed},
    {expert_down_bias, "mlp.experts.down_proj_bias", experts},
    {shared_router, "mlp.shared_expert_gate.weight"},
    {shared_gate, "mlp.shared_experts.gate_proj.weight"},
    {shared_gate, "mlp.shared_expert.gate_proj.weight"},
    {shared_gate, "shared_mlp.input_linear.weight", gate_up},
    {shared_up, "mlp.shared_experts.up_proj.weight"},
    {shared_up, "mlp.shared_expert.up_proj.weight"},
    {shared_up, "shared_mlp.input_linear.weight", gate_up},
    {shared_down, "mlp.shared_experts.down_proj.weight"},
    {shared_down, "mlp.shared_expert.down_proj.weight"},
    {shared_down, "shared_mlp.output_linear.weight"},
    {dense_gate, "mlp.gate_proj.weight"},
    {dense_gate, "feed_forward.w1.weight"},
    {dense_up, "mlp.up_proj.weight"},
    {dense_up, "feed_forward.w3.weight"},
    {dense_down, "mlp.down_proj.weight"},
    {dense_down, "feed_forward.w2.weight"},
});

// llama.cpp, src/llama-arch.cpp. GLM's norm before the feed-forward is called by what stands before it. Files
// of 2023 have the experts one by one.
constexpr auto kGgufPatterns = std::to_array<Pattern>({
    {embedding, "token_embd.weight"},
    {final_norm, "output_norm.weight"},
    {final_norm, "token_embd_norm.weight"},  // LFM2's, although it stands behind the last layer
    {head, "output.weight"},
    {mixer_norm, "attn_norm.weight"},
    {query, "attn_q.weight"},
    {query_bias, "attn_q.bias"},
    {query_norm, "attn_q_norm.weight"},
    {sinks, "attn_sinks.weight"},
    {key, "attn_k.weight"},
    {key_bias, "attn_k.bias"},
    {key_norm, "attn_k_norm.weight"},
    {value, "attn_v.weight"},
    {value_bias, "attn_v.bias"},
    {attention_output, "attn_output.weight"},
    {attention_output_bias, "attn_output.bias"},
    {convolution_input, "shortconv.in_proj.weight"},
    {convolution_kernel, "shortconv.conv.weight"},
    {convolution_output, "shortconv.out_proj.weight"},
    {query_latent, "attn_q_a.weight"},
    {query_latent_norm, "attn_q_a_norm.weight"},
    {latent_query, "attn_q_b.weight"},
    {key_value_latent, "attn_kv_a_mqa.weight"},
    {key_value_latent_norm, "attn_kv_a_norm.weight"},
    {latent_key_value, "attn_kv_b.weight"},
    {feed_forward_norm, "ffn_norm.weight"},
    {feed_forward_norm, "post_attention_norm.weight"},
    {router, "ffn_gate_inp.weight"},
    {router_bias, "ffn_gate_inp.bias"},
    {router_selection_bias, "exp_probs_b.bias"},
    {expert_gate, "ffn_gate_exps.weight", experts},
    {expert_gate, "ffn_gate.*.weight"},
    {expert_gate, "ffn_gate_up_exps.weight", experts_gate_up},
    {expert_gate_bias, "ffn_gate_exps.bias", experts},
    {expert_up, "ffn_up_exps.weight", experts},
    {expert_up, "ffn_up.*.weight"},
    {expert_up, "ffn_gate_up_exps.weight", experts_gate_up},
    {expert_up_bias, "ffn_up_exps.bias", experts},
    {expert_down, "ffn_down_exps.weight", experts},
    {expert_down, "ffn_down.*.weight"},
    {expert_down_bias, "ffn_down_exps.bias", experts},
    {shared_router, "ffn_gate_inp_shexp.weight"},
    {shared_gate, "ffn_gate_shexp.weight"},
    {shared_up, "ffn_up_shexp.weight"},
    {shared_down, "ffn_down_shexp.weight"},
    {dense_gate, "ffn_gate.weight"},
    {dense_up, "ffn_up.weight"},
    {dense_down, "ffn_down.weight"},
});

bool is_of_model(TensorRole role) { return role == embedding || role == final_norm || role == head; }

/// One of several experts, as opposed to the feed-forward of a dense layer.
bool is_of_mixture(TensorRole role) {
  return role == expert_gate || role == expert_up || role == expert_down;
}

/// The matrix or bias that lies behind its partner where the two share a tensor.
bool is_second_half(TensorRole role) {
  return role == expert_up || role == expert_up_bias || role == shared_up;
}

bool has_turns(Packing packing) {
  return packing == experts_turns || packing == experts_turns_transposed || packing == experts_turns_mxfp4;
}
bool is_transposed(Packing packing) {
  return packing == experts_turns_transposed || packing == experts_transposed;
}
bool is_mxfp4(Packing packing) { return packing == experts_turns_mxfp4 || packing == experts_mxfp4; }

std::string layer_prefix(std::string_view layers, const ModelTensor& tensor) {
  return std::string(layers) + std::to_string(tensor.layer) + ".";
}

const Mixture& mixture_of(const ModelTensor& tensor, const ModelDescription& description) {
  return *description.layer(tensor.layer).feed_forward.mixture;
}

Placement whole_placement(std::string layout, std::string name, const ModelTensor& tensor) {
  return {.layout = std::move(layout),
          .name = std::move(name),
          .shape = tensor.shape,
          .outer_index = {},
          .first_row = 0,
          .transposed = false,
          .turns = 1,
          .turn = 0,
          .exponents_name = {},
          .rotary_width = 0};
}

/// The early upload in eight shards: [experts x width, model width], the experts of a layer one above the
/// other. Down has the same shape and is transposed in it.
Placement stacked(const ModelTensor& tensor, const ModelDescription& description) {
  const Mixture& mixture = mixture_of(tensor, description);
  Placement place = whole_placement(
      "stacked",
      layer_prefix("layers.", tensor) + "block_sparse_moe." + std::string(matrix_label(tensor.role)), tensor);
  place.shape = {mixture.experts * mixture.width, description.width};
  place.first_row = *tensor.expert * mixture.width;
  place.transposed = tensor.role == expert_down;
  return place;
}

/// Names a layout for reports, by how it holds the experts.
struct Layout {
  std::string_view model;  ///< prefix of the embedding and the last norm
  std::string_view head;   ///< prefix of the head
  std::string layers;      ///< prefix of layers
  std::string_view name;   ///< of tensors that are of no expert, too
  std::string_view numbered;
  std::string_view shared;
  bool biased_in_turns = false;  ///< experts with biases are arranged as is_possible() says
};

std::string with_ending(std::string_view name, std::string_view ending, std::string_view other) {
  return std::string(name.substr(0, name.size() - ending.size())) + std::string(other);
}

Placement place_by(const Pattern& pattern, const Layout& layout, const ModelTensor& tensor,
                   const ModelDescription& description) {
  std::string name(pattern.name);
  const bool alone = pattern.packing == whole || pattern.packing == channels;
  std::string_view layout_name = alone ? layout.name : layout.shared;
  if (const std::size_t star = name.find('*'); star != std::string::npos) {
    name.replace(star, 1, std::to_string(*tensor.expert));
    layout_name = layout.numbered;
  }
  if (!is_of_model(tensor.role)) {
    name.insert(0, layer_prefix(layout.layers, tensor));
  } else {
    name.insert(0, tensor.role == head ? layout.head : layout.model);
  }
  Placement place = whole_placement(std::string(layout_name), std::move(name), tensor);
  if (pattern.packing == experts_gate_up || pattern.packing == gate_up) {
    if (is_second_half(tensor.role)) place.first_row = tensor.shape[0];
    place.shape[0] *= 2;
  }
  if (has_turns(pattern.packing)) {
    place.turns = 2;
    place.turn = is_second_half(tensor.role) ? 1 : 0;
    place.shape[0] *= 2;
  }
  if (is_transposed(pattern.packing)) {
    place.transposed = true;
    std::swap(place.shape[0], place.shape[1]);
  }
  if (is_mxfp4(pattern.packing)) {
    place.exponents_name = with_ending(place.name, "_blocks", "_scales");
    place.shape.back() = base::divide_up(place.shape.back(), kMx4BlockCols);
    place.shape.push_back(kMx4BlockCols / 2);
  }
  if (pattern.packing != whole && pattern.packing != gate_up && pattern.packing != channels) {
    place.shape.insert(place.shape.begin(), mixture_of(tensor, description).experts);
    place.outer_index = tensor.expert;
  }
  if (pattern.packing == channels) place.shape.insert(place.shape.begin() + 1, 1);
  return place;
}

/// Gemma calls the norm behind the mixer as other families call that before the feed-forward.
bool suits(const Pattern& pattern, const ModelTensor& tensor, const ModelDescription& description) {
  if (pattern.role != tensor.role) return false;
  if (pattern.norms == Norms::any) return true;
  return description.layer(tensor.layer).post_norms == (pattern.norms == Norms::inputs_and_results);
}

/// Matrices of experts share names in two arrangements, which their shapes do not always tell apart.
/// transformers has one for experts with biases and the other for those without.
bool is_possible(Packing packing, const ModelTensor& tensor, const ModelDescription& description) {
  if (!is_of_mixture(tensor.role) || packing == whole) return true;
  const bool of_biased = has_turns(packing) || is_transposed(packing) || is_mxfp4(packing);
  return of_biased == mixture_of(tensor, description).expert_biases;
}

std::vector<Placement> places_by(std::span<const Pattern> patterns, const Layout& layout,
                                 const ModelTensor& tensor, const ModelDescription& description) {
  std::vector<Placement> places;
  for (const Pattern& pattern : patterns) {
    if (!suits(pattern, tensor, description)) continue;
    if (layout.biased_in_turns && !is_possible(pattern.packing, tensor, description)) continue;
    places.push_back(place_by(pattern, layout, tensor, description));
  }
  if (!places.empty()) return places;
  base::throw_malformed("tensor '" + tensor.name + "'",
                        "has no name in the layout '" + std::string(layout.name) + "' that is known");
}

/// How wide the heads are whose rows the hub's files keep in the order of RopeStyle::half_split, while the
/// description reads them interleaved; 0 for other tensors.
std::uint64_t width_of_permuted_heads(const ModelTensor& tensor, const ModelDescription& description) {
  if (tensor.role != query && tensor.role != key) return 0;
  const auto* attention = std::get_if<GroupedQueryAttention>(&description.layer(tensor.layer).mixer);
  const bool interleaved =
      attention != nullptr && attention->rope && attention->rope->style == RopeStyle::interleaved;
  return interleaved ? attention->head_dim : 0;
}

/// Mistral Large 3 and Small 4 have routers and experts beside the dense feed-forward instead of in it, and
/// call the shared one differently.
std::optional<std::string> name_since_large_3(const ModelTensor& tensor) {
  constexpr std::string_view kFeedForward = "feed_forward.";
  constexpr std::string_view kShared = "shared.";
  const std::size_t at = tensor.name.find(kFeedForward);
  if (at == std::string::npos) return std::nullopt;
  std::string rest = tensor.name.substr(at + kFeedForward.size());
  if (rest.starts_with(kShared)) {
    rest = "shared_experts." + rest.substr(kShared.size());
  } else if (!is_of_mixture(tensor.role) && tensor.role != router) {
    return std::nullopt;
  }
  return tensor.name.substr(0, at) + rest;
}

std::string without_weight(std::string_view tensor) {
  constexpr std::string_view kWeight = ".weight";
  if (tensor.ends_with(kWeight)) tensor.remove_suffix(kWeight.size());
  return std::string(tensor);
}

}  // namespace

std::vector<Placement> native_placements(const ModelTensor& tensor, const ModelDescription& description) {
  std::vector<Placement> places{whole_placement("native", tensor.name, tensor)};
  if (auto name = name_since_large_3(tensor))
    places.push_back(whole_placement("native", std::move(*name), tensor));
  // The early upload renames routers and experts only; all its other tensors have native names.
  if (tensor.role == router)
    places.push_back(
        whole_placement("stacked", layer_prefix("layers.", tensor) + "block_sparse_moe.gate.weight", tensor));
  if (is_of_mixture(tensor.role)) places.push_back(stacked(tensor, description));
  return places;
}

// Rows of query and key need no reordering here: where llama.cpp rotates neighbours, its converter has undone
// the order of transformers, and the description says so.
std::vector<Placement> gguf_placements(const ModelTensor& tensor, const ModelDescription& description) {
  const Layout layout{"", "", "blk.", "gguf", "gguf-per-expert", "gguf"};
  return places_by(kGgufPatterns, layout, tensor, description);
}

std::span<const HubRoot> hub_roots() {
  static constexpr auto kRoots = std::to_array<HubRoot>({
      {"model.", ""},
      {"model.language_model.", ""},
      {"language_model.model.", "language_model."},
  });
  return kRoots;
}

std::vector<Placement> hub_placements(const ModelTensor& tensor, const ModelDescription& description,
                                      const HubRoot& root) {
  const Layout layout{
      root.model, root.head, std::string(root.model) + "layers.", "hugging-face", "hugging-face",
      "fused",    true};
  auto places = places_by(kHubPatterns, layout, tensor, description);
  for (Placement& place : places) place.rotary_width = width_of_permuted_heads(tensor, description);
  return places;
}

std::vector<std::string> scale_names(std::string_view tensor) {
  const std::string stem = without_weight(tensor);
  // Mistral's own; compressed-tensors and vLLM; DeepSeek and transformers.
  if (stem.size() < tensor.size())
    return {stem + ".qscale_weight", stem + ".weight_scale", stem + ".weight_scale_inv"};
  // Fused experts of transformers 5 have names without ".weight".
  return {stem + "_scale_inv", stem + "_scale"};
}

std::vector<std::string> input_scale_names(std::string_view tensor) {
  const std::string stem = without_weight(tensor);
  if (stem.size() < tensor.size())
    return {stem + ".qscale_act", stem + ".input_scale", stem + ".activation_scale"};
  return {stem + "_activation_scale", stem + "_input_scale"};
}

}  // namespace sluice::format
