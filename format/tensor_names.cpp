#include "format/tensor_names.h"

#include <array>

#include "base/invariant.h"

namespace sluice::format {
namespace {

struct Renaming {
  std::string_view native;
  std::string_view hub;
};

// huggingface/transformers, convert_mixtral_weights_to_hf.py and convert_mistral_weights_to_hf.py
constexpr std::array<Renaming, 3> kModelNames{{{"tok_embeddings.weight", "model.embed_tokens.weight"},
                                               {"norm.weight", "model.norm.weight"},
                                               {"output.weight", "lm_head.weight"}}};
constexpr std::array<Renaming, 10> kLayerNames{{
    {"attention_norm.weight", "input_layernorm.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"attention.wq.weight", "self_attn.q_proj.weight"},
    {"attention.wk.weight", "self_attn.k_proj.weight"},
    {"attention.wv.weight", "self_attn.v_proj.weight"},
    {"attention.wo.weight", "self_attn.o_proj.weight"},
    {"feed_forward.gate.weight", "block_sparse_moe.gate.weight"},
    // of a dense model
    {"feed_forward.w1.weight", "mlp.gate_proj.weight"},
    {"feed_forward.w2.weight", "mlp.down_proj.weight"},
    {"feed_forward.w3.weight", "mlp.up_proj.weight"},
}};

// llama.cpp, src/llama-arch.cpp; its "llama" rotates neighbouring rows, so that q and k keep theirs.
constexpr std::array<Renaming, 3> kGgufModelNames{{{"tok_embeddings.weight", "token_embd.weight"},
                                                   {"norm.weight", "output_norm.weight"},
                                                   {"output.weight", "output.weight"}}};
constexpr std::array<Renaming, 7> kGgufLayerNames{{
    {"attention_norm.weight", "attn_norm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight"},
    {"attention.wq.weight", "attn_q.weight"},
    {"attention.wk.weight", "attn_k.weight"},
    {"attention.wv.weight", "attn_v.weight"},
    {"attention.wo.weight", "attn_output.weight"},
    {"feed_forward.gate.weight", "ffn_gate_inp.weight"},
}};

/// "layers.12.attention.wq.weight" is {"layers.12.", "attention.wq.weight"}; other names have no first part.
std::pair<std::string, std::string> split_layer(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  if (!name.starts_with(kLayers)) return {"", name};
  const std::size_t end = name.find('.', kLayers.size()) + 1;
  return {name.substr(0, end), name.substr(end)};
}

template <std::size_t N>
std::string rename(const std::array<Renaming, N>& table, std::string_view native) {
  for (const Renaming& row : table)
    if (row.native == native) return std::string(row.hub);
  INVARIANT(!"every tensor of the model has a name in every layout");
}

/// "w1" of "layers.0.feed_forward.experts.3.w1.weight"
std::string matrix_of(const std::string& name) { return name.substr(name.size() - 9, 2); }

Placement whole(std::string layout, std::string name, const ModelTensor& tensor) {
  return {.layout = std::move(layout),
          .name = std::move(name),
          .shape = tensor.shape,
          .outer_index = {},
          .first_row = 0,
          .transposed = false,
          .rotary_width = 0};
}

/// The early upload in eight shards: all experts of a layer one above the other, w2 transposed.
Placement stacked(const ModelTensor& tensor, const ModelParams& params, const std::string& layer) {
  const std::string matrix = matrix_of(tensor.name);
  Placement place = whole("stacked", layer + "block_sparse_moe." + matrix, tensor);
  place.shape = {params.num_experts * params.hidden_dim, params.dim};
  place.first_row = tensor.expert * params.hidden_dim;
  place.transposed = matrix == "w2";
  return place;
}

/// transformers, version 5: [expert, gate and up, in] and [expert, out, in]
Placement fused(const ModelTensor& tensor, const ModelParams& params, const std::string& layer) {
  const std::string matrix = matrix_of(tensor.name);
  const bool down = matrix == "w2";
  Placement place = whole("fused", layer + "mlp.experts." + (down ? "down_proj" : "gate_up_proj"), tensor);
  place.shape = down ? Shape{params.num_experts, params.dim, params.hidden_dim}
                     : Shape{params.num_experts, 2 * params.hidden_dim, params.dim};
  place.outer_index = tensor.expert;
  place.first_row = matrix == "w3" ? params.hidden_dim : 0;
  return place;
}

std::string without_weight(std::string_view tensor) {
  constexpr std::string_view kWeight = ".weight";
  if (tensor.ends_with(kWeight)) tensor.remove_suffix(kWeight.size());
  return std::string(tensor);
}

}  // namespace

std::vector<Placement> native_placements(const ModelTensor& tensor, const ModelParams& params) {
  std::vector<Placement> places{whole("native", tensor.name, tensor)};
  const auto [layer, rest] = split_layer(tensor.name);
  if (tensor.role == TensorRole::router)
    places.push_back(whole("stacked", layer + "block_sparse_moe.gate.weight", tensor));
  if (tensor.role == TensorRole::expert && !params.dense) places.push_back(stacked(tensor, params, layer));
  return places;
}

std::vector<Placement> gguf_placements(const ModelTensor& tensor, const ModelParams& params) {
  const auto [layer, rest] = split_layer(tensor.name);
  if (layer.empty()) return {whole("gguf", rename(kGgufModelNames, rest), tensor)};
  const std::string block = "blk." + layer.substr(std::string_view("layers.").size());
  if (tensor.role != TensorRole::expert)
    return {whole("gguf", block + rename(kGgufLayerNames, rest), tensor)};
  const std::string matrix = matrix_of(tensor.name);
  const std::string name = block + (matrix == "w1" ? "ffn_gate" : matrix == "w3" ? "ffn_up" : "ffn_down");
  if (params.dense) return {whole("gguf", name + ".weight", tensor)};
  Placement merged = whole("gguf", name + "_exps.weight", tensor);
  merged.shape.insert(merged.shape.begin(), params.num_experts);
  merged.outer_index = tensor.expert;
  const Placement single =
      whole("gguf-per-expert", name + "." + std::to_string(tensor.expert) + ".weight", tensor);
  if (matrix == "w2") return {merged, single};
  Placement both = merged;
  both.name = block + "ffn_gate_up_exps.weight";
  both.shape[1] = 2 * params.hidden_dim;
  both.first_row = matrix == "w3" ? params.hidden_dim : 0;
  return {merged, single, both};
}

std::vector<Placement> hub_placements(const ModelTensor& tensor, const ModelParams& params) {
  const auto [native_layer, rest] = split_layer(tensor.name);
  if (native_layer.empty()) return {whole("hugging-face", rename(kModelNames, rest), tensor)};
  const std::string layer = "model." + native_layer;
  if (tensor.role == TensorRole::expert && !params.dense) {
    const std::string name = layer + "block_sparse_moe.experts." + std::to_string(tensor.expert) + "." +
                             matrix_of(tensor.name) + ".weight";
    return {whole("hugging-face", name, tensor), fused(tensor, params, layer)};
  }
  std::vector<Placement> places{whole("hugging-face", layer + rename(kLayerNames, rest), tensor)};
  if (rest == "attention.wq.weight" || rest == "attention.wk.weight")
    places.front().rotary_width = params.head_dim;
  if (tensor.role == TensorRole::router) places.push_back(whole("fused", layer + "mlp.gate.weight", tensor));
  return places;
}

std::vector<std::string> scale_names(std::string_view tensor) {
  const std::string stem = without_weight(tensor);
  // Mistral's own; compressed-tensors and vLLM; DeepSeek and transformers.
  if (stem.size() < tensor.size())
    return {stem + ".qscale_weight", stem + ".weight_scale", stem + ".weight_scale_inv"};
  return {stem + "_scale_inv", stem + "_scale"};
}

std::vector<std::string> input_scale_names(std::string_view tensor) {
  const std::string stem = without_weight(tensor);
  if (stem.size() < tensor.size())
    return {stem + ".qscale_act", stem + ".input_scale", stem + ".activation_scale"};
  return {stem + "_activation_scale", stem + "_input_scale"};
}

}  // namespace sluice::format
