#include "tests/support/layouts.h"

#include <map>
#include <span>

#include "base/bytes.h"
#include "base/file.h"
#include "tests/support/pth_writer.h"

namespace sluice::tests {
namespace {

using Values = std::vector<std::uint16_t>;

constexpr std::size_t kShards = 3;

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

Values transposed(const Values& values, std::uint64_t rows, std::uint64_t cols) {
  Values out(values.size());
  for (std::uint64_t r = 0; r < rows; ++r)
    for (std::uint64_t c = 0; c < cols; ++c) out[c * rows + r] = values[r * cols + c];
  return out;
}

std::string hub_name(std::string name) {
  if (name == "tok_embeddings.weight") return "model.embed_tokens.weight";
  if (name == "norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  for (const auto& [from, to] : std::initializer_list<std::pair<const char*, const char*>>{
           {"attention_norm", "input_layernorm"},
           {"ffn_norm", "post_attention_layernorm"},
           {"attention.wq", "self_attn.q_proj"},
           {"attention.wk", "self_attn.k_proj"},
           {"attention.wv", "self_attn.v_proj"},
           {"attention.wo", "self_attn.o_proj"},
           {"feed_forward.gate", "block_sparse_moe.gate"},
           {"feed_forward.experts", "block_sparse_moe.experts"},
           {"feed_forward.w1", "mlp.gate_proj"},
           {"feed_forward.w2", "mlp.down_proj"},
           {"feed_forward.w3", "mlp.up_proj"}}) {
    name = replaced(std::move(name), from, to);
  }
  return "model." + name;
}

/// The experts' matrices of each layer by the end of their name, in the order of the experts.
using Experts = std::map<std::pair<std::string, std::string>, std::vector<const TinyTensor*>>;

bool is_expert(const TinyTensor& tensor) { return tensor.name.find(".experts.") != std::string::npos; }

Experts collect(const std::vector<TinyTensor>& tensors) {
  Experts experts;
  for (const TinyTensor& tensor : tensors) {
    if (!is_expert(tensor)) continue;
    const std::string layer = tensor.name.substr(0, tensor.name.find("feed_forward"));
    experts[{layer, tensor.name.substr(tensor.name.size() - 9, 2)}].push_back(&tensor);
  }
  return experts;
}

void append(Values& to, const Values& from) { to.insert(to.end(), from.begin(), from.end()); }

void stack(const format::MistralParams& params, const Experts& experts, std::vector<TinyTensor>& out) {
  for (const auto& [key, matrices] : experts) {
    TinyTensor tensor{key.first + "block_sparse_moe." + key.second,
                      {params.num_experts * params.hidden_dim, params.dim},
                      {}};
    for (const TinyTensor* matrix : matrices) {
      append(tensor.bf16,
             key.second == "w2" ? transposed(matrix->bf16, params.dim, params.hidden_dim) : matrix->bf16);
    }
    out.push_back(std::move(tensor));
  }
}

void fuse(const format::MistralParams& params, const Experts& experts, std::vector<TinyTensor>& out) {
  for (const auto& [key, matrices] : experts) {
    if (key.second == "w3") continue;
    const bool down = key.second == "w2";
    TinyTensor tensor;
    tensor.name = "model." + key.first + "mlp.experts." + (down ? "down_proj" : "gate_up_proj");
    tensor.shape = {params.num_experts, down ? params.dim : 2 * params.hidden_dim,
                    down ? params.hidden_dim : params.dim};
    for (std::size_t expert = 0; expert < matrices.size(); ++expert) {
      append(tensor.bf16, matrices[expert]->bf16);
      if (!down) append(tensor.bf16, experts.at({key.first, "w3"})[expert]->bf16);
    }
    out.push_back(std::move(tensor));
  }
}

std::vector<TinyTensor> rename(Naming naming, const format::MistralParams& params,
                               const std::vector<TinyTensor>& tensors) {
  const bool hub = naming == Naming::hub || naming == Naming::fused;
  const bool together = naming == Naming::stacked || naming == Naming::fused;
  std::vector<TinyTensor> out;
  for (TinyTensor tensor : tensors) {
    if (together && is_expert(tensor)) continue;
    if (hub && (tensor.name.ends_with("wq.weight") || tensor.name.ends_with("wk.weight")))
      tensor.bf16 = to_halves(tensor.bf16, params.dim, params.head_dim);
    if (hub) tensor.name = hub_name(tensor.name);
    if (naming == Naming::stacked)
      tensor.name = replaced(tensor.name, "feed_forward.gate", "block_sparse_moe.gate");
    if (naming == Naming::fused) tensor.name = replaced(tensor.name, "block_sparse_moe.gate", "mlp.gate");
    out.push_back(std::move(tensor));
  }
  if (naming == Naming::stacked) stack(params, collect(tensors), out);
  if (naming == Naming::fused) fuse(params, collect(tensors), out);
  return out;
}

std::string to_bytes(const Values& values, format::DType dtype) {
  if (dtype == format::DType::bf16) return std::string(base::as_text(std::as_bytes(std::span(values))));
  std::string wide(values.size() * 4, '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    wide[4 * i + 2] = static_cast<char>(values[i]);
    wide[4 * i + 3] = static_cast<char>(values[i] >> 8);
  }
  return wide;
}

std::string shard_name(Naming naming, Files files, std::size_t shard) {
  const std::string number = std::to_string(shard);
  if (files == Files::pth_shards)
    return "consolidated.0" + number + (naming == Naming::stacked ? ".pt" : ".pth");
  const bool native = naming == Naming::native || naming == Naming::stacked;
  return std::string(native ? "consolidated" : "model") + "-0000" + std::to_string(shard + 1) + "-of-0000" +
         std::to_string(kShards) + ".safetensors";
}

void write_one(const std::filesystem::path& path, bool pth, const std::vector<RawTensor>& tensors) {
  if (!pth) return write_plainly(path, make_safetensors(tensors));
  PthWriter writer(path.stem().string());
  for (const RawTensor& tensor : tensors) writer.add(tensor.name, tensor.dtype, tensor.shape, tensor.bytes);
  writer.write(path);
}

}  // namespace

std::vector<std::uint16_t> to_halves(const std::vector<std::uint16_t>& native, std::uint64_t cols,
                                     std::uint64_t width) {
  Values out(native.size());
  for (std::uint64_t row = 0; row < native.size() / cols; ++row) {
    const std::uint64_t head = row / width * width;
    const std::uint64_t j = row % width / (width / 2);
    const std::uint64_t i = row % (width / 2);
    for (std::uint64_t col = 0; col < cols; ++col)
      out[row * cols + col] = native[(head + 2 * i + j) * cols + col];
  }
  return out;
}

std::vector<RawTensor> to_layout(Naming naming, const format::MistralParams& params,
                                 const std::vector<TinyTensor>& tensors, format::DType dtype) {
  std::vector<RawTensor> out;
  for (const TinyTensor& tensor : rename(naming, params, tensors))
    out.push_back({tensor.name, dtype, tensor.shape, to_bytes(tensor.bf16, dtype)});
  return out;
}

void write_tensors(const std::filesystem::path& folder, Naming naming, Files files,
                   const std::vector<RawTensor>& tensors) {
  const bool native = naming == Naming::native || naming == Naming::stacked;
  const bool pth = files == Files::pth || files == Files::pth_shards;
  if (files == Files::pth || files == Files::safetensors) {
    const char* name = pth      ? "consolidated.00.pth"
                       : native ? "consolidated.safetensors"
                                : "model.safetensors";
    return write_one(folder / name, pth, tensors);
  }
  std::vector<std::vector<RawTensor>> shards(kShards);
  std::vector<std::pair<std::string, std::string>> map;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    shards[i % kShards].push_back(tensors[i]);
    map.emplace_back(tensors[i].name, shard_name(naming, files, i % kShards));
  }
  for (std::size_t i = 0; i < kShards; ++i) write_one(folder / shard_name(naming, files, i), pth, shards[i]);
  if (!native && !pth) write_plainly(folder / "model.safetensors.index.json", make_weight_map(map));
}

void write_params(const std::filesystem::path& folder, Naming naming, const format::MistralParams& params) {
  using format::Json;
  if (naming == Naming::native) return write_plainly(folder / "params.json", to_json(params).dump_pretty());
  auto json = Json::object({{"hidden_size", params.dim},
                            {"num_hidden_layers", params.n_layers},
                            {"num_attention_heads", params.n_heads},
                            {"num_key_value_heads", params.n_kv_heads},
                            {"head_dim", params.head_dim},
                            {"intermediate_size", params.hidden_dim},
                            {"rms_norm_eps", params.norm_eps},
                            {"vocab_size", params.vocab_size}});
  if (params.num_experts > 0) {
    json.set("num_local_experts", params.num_experts);
    json.set("num_experts_per_tok", params.num_experts_per_tok);
  }
  json.set("sliding_window", params.sliding_window ? Json(*params.sliding_window) : Json(nullptr));
  if (naming == Naming::fused) {
    json.set("rope_parameters", Json::object({{"rope_theta", params.rope_theta}, {"rope_type", "default"}}));
  } else {
    json.set("rope_theta", params.rope_theta);
  }
  if (naming == Naming::stacked) return write_plainly(folder / "params.json", json.dump_pretty());
  json.set("architectures",
           Json::array({params.num_experts == 0 ? "MistralForCausalLM" : "MixtralForCausalLM"}));
  json.set("model_type", params.num_experts == 0 ? "mistral" : "mixtral");
  json.set("hidden_act", "silu");
  json.set("tie_word_embeddings", false);
  json.set("torch_dtype", "bfloat16");
  write_plainly(folder / "config.json", json.dump_pretty());
}

void write_layout(const std::filesystem::path& folder, Naming naming, Files files,
                  const format::MistralParams& params, const std::vector<TinyTensor>& tensors,
                  format::DType dtype) {
  write_tensors(folder, naming, files, to_layout(naming, params, tensors, dtype));
  write_params(folder, naming, params);
  const std::filesystem::path demo = SLUICE_DEMO_RELEASE;
  write_plainly(folder / "tokenizer.model", base::read_text_file(demo / "tokenizer.model"));
}

}  // namespace sluice::tests
