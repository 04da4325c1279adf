// The names of tensors in the layouts of releases, as tables and a few rules (docs/checkpoints.md,
// "Layouts"). Only roles of Mistral's and Mixtral's models have names here; model_tensors.h knows more roles
// than can be found in files today. Pure functions; any number of threads may call them.

#include "format/tensor_names.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace sluice::format {
namespace {

struct RoleNames {
  TensorRole role;
  std::string_view hub;   ///< behind "model.layers.N." where the role is of a layer
  std::string_view gguf;  ///< behind "blk.N."
};

// Hub: huggingface/transformers, convert_mixtral_weights_to_hf.py and convert_mistral_weights_to_hf.py; '*'
// is the number of the expert. GGUF: llama.cpp, src/llama-arch.cpp; experts have names of their own, below.
constexpr std::array kNames{
    RoleNames{TensorRole::embedding, "model.embed_tokens.weight", "token_embd.weight"},
    RoleNames{TensorRole::final_norm, "model.norm.weight", "output_norm.weight"},
    RoleNames{TensorRole::head, "lm_head.weight", "output.weight"},
    RoleNames{TensorRole::mixer_norm, "input_layernorm.weight", "attn_norm.weight"},
    RoleNames{TensorRole::query, "self_attn.q_proj.weight", "attn_q.weight"},
    RoleNames{TensorRole::key, "self_attn.k_proj.weight", "attn_k.weight"},
    RoleNames{TensorRole::value, "self_attn.v_proj.weight", "attn_v.weight"},
    RoleNames{TensorRole::attention_output, "self_attn.o_proj.weight", "attn_output.weight"},
    RoleNames{TensorRole::feed_forward_norm, "post_attention_layernorm.weight", "ffn_norm.weight"},
    RoleNames{TensorRole::router, "block_sparse_moe.gate.weight", "ffn_gate_inp.weight"},
    RoleNames{TensorRole::expert_gate, "block_sparse_moe.experts.*.w1.weight", "ffn_gate"},
    RoleNames{TensorRole::expert_up, "block_sparse_moe.experts.*.w3.weight", "ffn_up"},
    RoleNames{TensorRole::expert_down, "block_sparse_moe.experts.*.w2.weight", "ffn_down"},
    RoleNames{TensorRole::dense_gate, "mlp.gate_proj.weight", "ffn_gate.weight"},
    RoleNames{TensorRole::dense_up, "mlp.up_proj.weight", "ffn_up.weight"},
    RoleNames{TensorRole::dense_down, "mlp.down_proj.weight", "ffn_down.weight"},
};

const RoleNames& names_of(const ModelTensor& tensor, std::string_view layout) {
  const auto found = std::ranges::find(kNames, tensor.role, &RoleNames::role);
  if (found != kNames.end()) return *found;
  base::throw_malformed("tensor '" + tensor.name + "'",
                        "has no name in the layout '" + std::string(layout) + "' that is known");
}

bool is_of_model(TensorRole role) {
  return role == TensorRole::embedding || role == TensorRole::final_norm || role == TensorRole::head;
}

/// One of several experts, as opposed to the feed-forward of a dense layer.
bool is_of_mixture(TensorRole role) {
  return role == TensorRole::expert_gate || role == TensorRole::expert_up || role == TensorRole::expert_down;
}

std::string layer_prefix(std::string_view layers, const ModelTensor& tensor) {
  return std::string(layers) + std::to_string(tensor.layer) + ".";
}

const Mixture& mixture_of(const ModelTensor& tensor, const ModelDescription& description) {
  return *description.layer(tensor.layer).feed_forward.mixture;
}

Placement whole(std::string layout, std::string name, const ModelTensor& tensor) {
  return {.layout = std::move(layout),
          .name = std::move(name),
          .shape = tensor.shape,
          .outer_index = {},
          .first_row = 0,
          .transposed = false,
          .rotary_width = 0};
}

/// The early upload in eight shards: [experts x width, model width], the experts of a layer one above the
/// other. Down has the same shape and is transposed in it.
Placement stacked(const ModelTensor& tensor, const ModelDescription& description) {
  const Mixture& mixture = mixture_of(tensor, description);
  Placement place = whole(
      "stacked",
      layer_prefix("layers.", tensor) + "block_sparse_moe." + std::string(matrix_label(tensor.role)), tensor);
  place.shape = {mixture.experts * mixture.width, description.width};
  place.first_row = *tensor.expert * mixture.width;
  place.transposed = tensor.role == TensorRole::expert_down;
  return place;
}

/// transformers, version 5: [expert, gate and up, in] and [expert, out, in], with gate above up.
Placement fused(const ModelTensor& tensor, const ModelDescription& description) {
  const Mixture& mixture = mixture_of(tensor, description);
  const bool down = tensor.role == TensorRole::expert_down;
  Placement place = whole(
      "fused", layer_prefix("model.layers.", tensor) + "mlp.experts." + (down ? "down_proj" : "gate_up_proj"),
      tensor);
  place.shape = down ? Shape{mixture.experts, description.width, mixture.width}
                     : Shape{mixture.experts, 2 * mixture.width, description.width};
  place.outer_index = tensor.expert;
  place.first_row = tensor.role == TensorRole::expert_up ? mixture.width : 0;
  return place;
}

/// How wide the heads are whose rows the hub's files keep in the order of RopeStyle::half_split, while the
/// description reads them interleaved; 0 for other tensors.
std::uint64_t width_of_permuted_heads(const ModelTensor& tensor, const ModelDescription& description) {
  if (tensor.role != TensorRole::query && tensor.role != TensorRole::key) return 0;
  const auto* attention = std::get_if<GroupedQueryAttention>(&description.layer(tensor.layer).mixer);
  const bool interleaved =
      attention != nullptr && attention->rope && attention->rope->style == RopeStyle::interleaved;
  return interleaved ? attention->head_dim : 0;
}

std::string without_weight(std::string_view tensor) {
  constexpr std::string_view kWeight = ".weight";
  if (tensor.ends_with(kWeight)) tensor.remove_suffix(kWeight.size());
  return std::string(tensor);
}

}  // namespace

std::vector<Placement> native_placements(const ModelTensor& tensor, const ModelDescription& description) {
  std::vector<Placement> places{whole("native", tensor.name, tensor)};
  // The early upload renames routers and experts only; all its other tensors have native names.
  if (tensor.role == TensorRole::router)
    places.push_back(
        whole("stacked", layer_prefix("layers.", tensor) + "block_sparse_moe.gate.weight", tensor));
  if (is_of_mixture(tensor.role)) places.push_back(stacked(tensor, description));
  return places;
}

// Rows of query and key need no reordering here: llama.cpp's converter has undone the order of transformers.
std::vector<Placement> gguf_placements(const ModelTensor& tensor, const ModelDescription& description) {
  const std::string base_name(names_of(tensor, "gguf").gguf);
  if (is_of_model(tensor.role)) return {whole("gguf", base_name, tensor)};
  const std::string block = layer_prefix("blk.", tensor);
  if (!is_of_mixture(tensor.role)) return {whole("gguf", block + base_name, tensor)};
  const Mixture& mixture = mixture_of(tensor, description);
  Placement merged = whole("gguf", block + base_name + "_exps.weight", tensor);
  merged.shape.insert(merged.shape.begin(), mixture.experts);
  merged.outer_index = tensor.expert;
  const Placement single =
      whole("gguf-per-expert", block + base_name + "." + std::to_string(*tensor.expert) + ".weight", tensor);
  if (tensor.role == TensorRole::expert_down) return {merged, single};
  // Gate above up in one tensor.
  Placement both = merged;
  both.name = block + "ffn_gate_up_exps.weight";
  both.shape[1] = 2 * mixture.width;
  both.first_row = tensor.role == TensorRole::expert_up ? mixture.width : 0;
  return {merged, single, both};
}

std::vector<Placement> hub_placements(const ModelTensor& tensor, const ModelDescription& description) {
  std::string name(names_of(tensor, "hugging-face").hub);
  if (is_of_model(tensor.role)) return {whole("hugging-face", name, tensor)};
  if (const std::size_t star = name.find('*'); star != std::string::npos)
    name.replace(star, 1, std::to_string(*tensor.expert));
  const std::string layer = layer_prefix("model.layers.", tensor);
  std::vector<Placement> places{whole("hugging-face", layer + name, tensor)};
  places.front().rotary_width = width_of_permuted_heads(tensor, description);
  if (tensor.role == TensorRole::router) places.push_back(whole("fused", layer + "mlp.gate.weight", tensor));
  if (is_of_mixture(tensor.role)) places.push_back(fused(tensor, description));
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
