#include "format/model_tensors.h"

namespace sluice::format {

std::string layer_tensor_name(std::uint64_t layer, std::string_view rest) {
  return "layers." + std::to_string(layer) + "." + std::string(rest);
}

std::string expert_tensor_name(const ModelParams& params, std::uint64_t layer, std::uint64_t expert,
                               std::string_view matrix) {
  std::string name = layer_tensor_name(layer, "feed_forward.");
  if (!params.dense) name += "experts." + std::to_string(expert) + ".";
  return name + std::string(matrix) + ".weight";
}

std::vector<ModelTensor> model_tensors(const ModelParams& p) {
  const std::uint64_t query_width = p.n_heads * p.head_dim;
  const std::uint64_t key_width = p.n_kv_heads * p.head_dim;
  std::vector<ModelTensor> tensors;
  const auto add = [&](std::string name, Shape shape, TensorRole role) {
    tensors.push_back({std::move(name), std::move(shape), role});
  };

  add("tok_embeddings.weight", {p.vocab_size, p.dim}, TensorRole::embedding);
  for (std::uint64_t layer = 0; layer < p.n_layers; ++layer) {
    const auto name = [&](std::string_view rest) { return layer_tensor_name(layer, rest); };
    add(name("attention_norm.weight"), {p.dim}, TensorRole::norm);
    add(name("attention.wq.weight"), {query_width, p.dim}, TensorRole::attention);
    add(name("attention.wk.weight"), {key_width, p.dim}, TensorRole::attention);
    add(name("attention.wv.weight"), {key_width, p.dim}, TensorRole::attention);
    add(name("attention.wo.weight"), {p.dim, query_width}, TensorRole::attention);
    add(name("ffn_norm.weight"), {p.dim}, TensorRole::norm);
    if (!p.dense) add(name("feed_forward.gate.weight"), {p.num_experts, p.dim}, TensorRole::router);
    for (std::uint64_t expert = 0; expert < p.num_experts; ++expert) {
      for (const std::string_view matrix : {"w1", "w3", "w2"}) {
        Shape shape = matrix == "w2" ? Shape{p.dim, p.hidden_dim} : Shape{p.hidden_dim, p.dim};
        tensors.push_back({expert_tensor_name(p, layer, expert, matrix), std::move(shape), TensorRole::expert,
                           layer, expert});
      }
    }
  }
  add("norm.weight", {p.dim}, TensorRole::norm);
  add("output.weight", {p.vocab_size, p.dim}, TensorRole::head);
  return tensors;
}

}  // namespace sluice::format
