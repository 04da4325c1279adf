#include "tests/support/family_release.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <span>

#include "base/bytes.h"
#include "base/file.h"
#include "base/invariant.h"
#include "format/gguf/gguf_writer.h"
#include "format/json.h"
#include "format/model_tensors.h"
#include "format/sentencepiece_model.h"
#include "format/tensor.h"
#include "tests/support/family_configs.h"

namespace sluice::tests {
namespace {

using format::DType;
using format::Shape;

struct Renaming {
  const char* native;
  const char* hub;
  const char* gguf;
};

// Everything but mixtures, behind the prefix of the layer.
constexpr Renaming kRenamings[] = {
    {"attention_norm.weight", "input_layernorm.weight", "attn_norm.weight"},
    {"attention.wq.weight", "self_attn.q_proj.weight", "attn_q.weight"},
    {"attention.wq.bias", "self_attn.q_proj.bias", "attn_q.bias"},
    {"attention.wk.weight", "self_attn.k_proj.weight", "attn_k.weight"},
    {"attention.wk.bias", "self_attn.k_proj.bias", "attn_k.bias"},
    {"attention.wv.weight", "self_attn.v_proj.weight", "attn_v.weight"},
    {"attention.wv.bias", "self_attn.v_proj.bias", "attn_v.bias"},
    {"attention.sinks", "self_attn.sinks", "attn_sinks.weight"},
    {"attention.wo.bias", "self_attn.o_proj.bias", "attn_output.bias"},
    {"attention.q_norm.weight", "self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"attention.k_norm.weight", "self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"attention.wo.weight", "self_attn.o_proj.weight", "attn_output.weight"},
    {"attention.wq_a.weight", "self_attn.q_a_proj.weight", "attn_q_a.weight"},
    {"attention.q_a_norm.weight", "self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"},
    {"attention.wq_b.weight", "self_attn.q_b_proj.weight", "attn_q_b.weight"},
    {"attention.wkv_a_with_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"},
    {"attention.kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"},
    {"attention.wkv_b.weight", "self_attn.kv_b_proj.weight", "attn_kv_b.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight", "ffn_norm.weight"},
    {"feed_forward.w1.weight", "mlp.gate_proj.weight", "ffn_gate.weight"},
    {"feed_forward.w3.weight", "mlp.up_proj.weight", "ffn_up.weight"},
    {"feed_forward.w2.weight", "mlp.down_proj.weight", "ffn_down.weight"},
    {"feed_forward.shared_gate.weight", "mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"},
    {"feed_forward.gate.weight", "mlp.gate.weight", "ffn_gate_inp.weight"},
    {"feed_forward.gate.bias", "mlp.router.bias", "ffn_gate_inp.bias"},
    {"feed_forward.gate.selection_bias", "mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
};

struct HubName {
  std::string_view native;
  std::string_view hub;
};

// Names that differ from those above, by family; '*' stands for the number of an expert.
constexpr HubName kDeltaNames[] = {
    {"delta.wqkv.weight", "linear_attn.in_proj_qkv.weight"},
    {"delta.wz.weight", "linear_attn.in_proj_z.weight"},
    {"delta.wb.weight", "linear_attn.in_proj_b.weight"},
    {"delta.wa.weight", "linear_attn.in_proj_a.weight"},
    {"delta.wqkvz.weight", "linear_attn.in_proj_qkvz.weight"},
    {"delta.wba.weight", "linear_attn.in_proj_ba.weight"},
    {"delta.conv.weight", "linear_attn.conv1d.weight"},
    {"delta.a_log", "linear_attn.A_log"},
    {"delta.dt_bias", "linear_attn.dt_bias"},
    {"delta.norm.weight", "linear_attn.norm.weight"},
    {"delta.wo.weight", "linear_attn.out_proj.weight"},
};

constexpr HubName kGemmaNames[] = {
    {"attention_post_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    {"ffn_post_norm.weight", "post_feedforward_layernorm.weight"},
    {"feed_forward.experts_norm.weight", "pre_feedforward_layernorm_2.weight"},
    {"feed_forward.experts_post_norm.weight", "post_feedforward_layernorm_2.weight"},
    {"feed_forward.dense_post_norm.weight", "post_feedforward_layernorm_1.weight"},
    {"feed_forward.gate.weight", "router.proj.weight"},
    {"feed_forward.gate.input_scale", "router.scale"},
    {"feed_forward.gate.expert_scale", "router.per_expert_scale"},
    {"feed_forward.experts.*.w1.weight", "experts.*.gate_proj.weight"},
    {"feed_forward.experts.*.w3.weight", "experts.*.up_proj.weight"},
    {"feed_forward.experts.*.w2.weight", "experts.*.down_proj.weight"},
    {"output_scale", "layer_scalar"},
};

constexpr HubName kLfm2Names[] = {
    {"attention_norm.weight", "operator_norm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight"},
    {"attention.q_norm.weight", "self_attn.q_layernorm.weight"},
    {"attention.k_norm.weight", "self_attn.k_layernorm.weight"},
    {"attention.wo.weight", "self_attn.out_proj.weight"},
    {"conv.wi.weight", "conv.in_proj.weight"},
    {"conv.conv.weight", "conv.conv.weight"},
    {"conv.wo.weight", "conv.out_proj.weight"},
    {"feed_forward.gate.weight", "feed_forward.gate.weight"},
    {"feed_forward.gate.selection_bias", "feed_forward.expert_bias"},
    {"feed_forward.w1.weight", "feed_forward.w1.weight"},
    {"feed_forward.w3.weight", "feed_forward.w3.weight"},
    {"feed_forward.w2.weight", "feed_forward.w2.weight"},
    {"feed_forward.experts.*.w1.weight", "feed_forward.experts.*.w1.weight"},
    {"feed_forward.experts.*.w3.weight", "feed_forward.experts.*.w3.weight"},
    {"feed_forward.experts.*.w2.weight", "feed_forward.experts.*.w2.weight"},
};

std::span<const HubName> own_names(std::string_view family) {
  if (family == "gemma4_text") return kGemmaNames;
  if (family == "lfm2_moe") return kLfm2Names;
  if (family == "qwen3_next" || family == "qwen3_5_moe_text") return kDeltaNames;
  return {};
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const auto at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// "layers.3." and the rest; an empty prefix for tensors of the model.
std::pair<std::string, std::string> split_layer(const std::string& name) {
  if (!name.starts_with("layers.")) return {"", name};
  const auto end = name.find('.', 7) + 1;
  return {name.substr(0, end), name.substr(end)};
}

/// Returns the name that stands for "w1" of an expert.
std::string projection(char number, bool by_number) {
  if (by_number) return std::string("w") + number;
  return number == '1' ? "gate_proj" : number == '3' ? "up_proj" : "down_proj";
}

/// "feed_forward.experts.*.w1.weight" and "7" for the seventh expert; the whole and "" for other tensors.
std::pair<std::string, std::string> split_expert(const std::string& rest) {
  const std::string_view experts = "feed_forward.experts.";
  if (!rest.starts_with(experts)) return {rest, ""};
  const auto end = rest.find('.', experts.size());
  return {std::string(experts) + "*" + rest.substr(end), rest.substr(experts.size(), end - experts.size())};
}

std::string hub_rest(std::string_view family, const std::string& rest) {
  const auto [pattern, expert] = split_expert(rest);
  for (const HubName& own : own_names(family)) {
    if (own.native != pattern) continue;
    std::string name(own.hub);
    replace(name, "*", expert);
    return name;
  }
  const bool block_sparse = family == "minimax_m2" || family == "granitemoe";
  if (family == "minimax_m2" && rest == "feed_forward.gate.selection_bias")
    return "block_sparse_moe.e_score_correction_bias";
  if (family == "granitemoe" && rest == "feed_forward.gate.weight")
    return "block_sparse_moe.router.layer.weight";
  if (family == "gpt_oss" && rest == "feed_forward.gate.weight") return "mlp.router.weight";
  for (const auto& [native, hub, gguf] : kRenamings) {
    if (rest != native) continue;
    std::string name = hub;
    if (block_sparse && rest.starts_with("feed_forward.gate.")) replace(name, "mlp.", "block_sparse_moe.");
    return name;
  }
  std::string name = rest;  // feed_forward.experts.M.w1.weight, feed_forward.shared.w1.weight
  const char number = name[name.size() - std::string_view("1.weight").size()];
  replace(name, std::string("w") + number, projection(number, block_sparse));
  replace(name, "feed_forward.shared.",
          family.starts_with("qwen") ? "mlp.shared_expert." : "mlp.shared_experts.");
  replace(name, "feed_forward.", block_sparse ? "block_sparse_moe." : "mlp.");
  return name;
}

/// "layers.0.feed_forward.experts.*.w1.weight" for experts of a mixture, else nothing.
std::string of_all_experts(const std::string& name) {
  const auto at = name.find(".experts.");
  if (at == std::string::npos) return {};
  const auto begin = at + std::string_view(".experts.").size();
  return name.substr(0, begin) + "*" + name.substr(name.find('.', begin));
}

/// The experts of a layer one behind the other, by their name with '*'. They stand together in `native`.
std::map<std::string, RawTensor> stack_experts(const std::vector<RawTensor>& native) {
  std::map<std::string, RawTensor> stacks;
  for (const RawTensor& tensor : native) {
    const std::string name = of_all_experts(tensor.name);
    if (name.empty()) continue;
    RawTensor& stack = stacks[name];
    if (stack.shape.empty()) {
      stack = {name, tensor.dtype, tensor.shape, {}};
      stack.shape.insert(stack.shape.begin(), 0);
    }
    ++stack.shape[0];
    stack.bytes += tensor.bytes;
  }
  return stacks;
}

/// Gate above up, expert by expert.
RawTensor join(const RawTensor& gate, const RawTensor& up) {
  RawTensor both = gate;
  both.shape[1] *= 2;
  both.bytes.clear();
  const std::size_t matrix_bytes = gate.bytes.size() / gate.shape[0];
  for (std::size_t at = 0; at < gate.bytes.size(); at += matrix_bytes)
    both.bytes += gate.bytes.substr(at, matrix_bytes) + up.bytes.substr(at, matrix_bytes);
  return both;
}

/// The two numbers of each row exchanged, matrix by matrix: [.., in, out] of [.., out, in].
RawTensor transpose(const RawTensor& tensor) {
  RawTensor turned = tensor;
  const std::size_t rows = tensor.shape[1];
  const std::size_t cols = tensor.shape[2];
  std::swap(turned.shape[1], turned.shape[2]);
  for (std::size_t e = 0; e < tensor.shape[0]; ++e)
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c)
        turned.bytes.replace((e * rows * cols + c * rows + r) * 2, 2, tensor.bytes,
                             (e * rows * cols + r * cols + c) * 2, 2);
  return turned;
}

/// Rows, or numbers of a vector, of gate and up in turns, expert by expert.
RawTensor take_turns(const RawTensor& gate, const RawTensor& up) {
  RawTensor both = gate;
  both.shape[1] *= 2;
  both.bytes.clear();
  const std::size_t row_bytes = gate.bytes.size() / (gate.shape[0] * gate.shape[1]);
  for (std::size_t at = 0; at < gate.bytes.size(); at += row_bytes)
    both.bytes += gate.bytes.substr(at, row_bytes) + up.bytes.substr(at, row_bytes);
  return both;
}

/// gpt-oss without MXFP4, as transformers saves it.
void add_gpt_oss(const std::vector<RawTensor>& native, std::vector<RawTensor>& out) {
  const auto stacks = stack_experts(native);
  for (const auto& [name, stack] : stacks) {
    const std::string prefix = "model." + split_layer(name).first + "mlp.experts.";
    if (const auto at = name.find(".w1."); at != std::string::npos) {
      std::string up = name;
      up[at + 2] = '3';
      const RawTensor both = take_turns(stack, stacks.at(up));
      const bool bias = name.ends_with("bias");
      out.push_back(bias ? both : transpose(both));
      out.back().name = prefix + (bias ? "gate_up_proj_bias" : "gate_up_proj");
    } else if (name.find(".w2.") != std::string::npos) {
      const bool bias = name.ends_with("bias");
      out.push_back(bias ? stack : transpose(stack));
      out.back().name = prefix + (bias ? "down_proj_bias" : "down_proj");
    }
  }
}

void add_fused(std::string_view family, const std::vector<RawTensor>& native, std::vector<RawTensor>& out) {
  const auto stacks = stack_experts(native);
  for (const auto& [name, stack] : stacks) {
    const std::string prefix = "model." + split_layer(name).first;
    const auto sibling = [&](char number) {
      std::string other = name;
      other[other.size() - std::string_view("1.weight").size()] = number;
      return stacks.at(other);
    };
    const bool granite = family == "granitemoe";
    const std::string experts = family == "gemma4_text" ? "experts."
                                : family == "lfm2_moe"  ? "feed_forward.experts."
                                                        : "mlp.experts.";
    if (name.ends_with("w1.weight")) {
      out.push_back(join(stack, sibling('3')));
      out.back().name =
          prefix + (granite ? "block_sparse_moe.input_linear.weight" : experts + "gate_up_proj");
    } else if (name.ends_with("w2.weight")) {
      out.push_back(stack);
      out.back().name = prefix + (granite ? "block_sparse_moe.output_linear.weight" : experts + "down_proj");
    }
  }
}

std::string model_name(const std::string& name, bool gguf) {
  if (name == "tok_embeddings.weight") return gguf ? "token_embd.weight" : "model.embed_tokens.weight";
  if (name == "norm.weight") return gguf ? "output_norm.weight" : "model.norm.weight";
  INVARIANT(name == "output.weight");
  return gguf ? "output.weight" : "lm_head.weight";
}

std::string gguf_rest(std::string_view family, const std::string& rest) {
  if ((family == "glm4_moe" || family == "gpt_oss") && rest == "ffn_norm.weight")
    return "post_attention_norm.weight";
  for (const auto& [native, hub, gguf] : kRenamings)
    if (rest == native) return gguf;
  if (rest == "conv.wi.weight") return "shortconv.in_proj.weight";
  if (rest == "conv.conv.weight") return "shortconv.conv.weight";
  if (rest == "conv.wo.weight") return "shortconv.out_proj.weight";
  const std::size_t dot = rest.rfind('.');  // w1.weight, w1.bias
  const char number = rest[dot - 1];
  const std::string kind = number == '1' ? "ffn_gate" : number == '3' ? "ffn_up" : "ffn_down";
  return kind + (rest.starts_with("feed_forward.shared.") ? "_shexp" : "_exps") + rest.substr(dot);
}

std::string to_f32(const RawTensor& tensor) {
  if (tensor.dtype == DType::f32) return tensor.bytes;
  std::string out(tensor.bytes.size() * 2, '\0');
  const auto source = base::as_bytes(tensor.bytes);
  for (std::size_t i = 0; i < tensor.bytes.size() / 2; ++i) {
    const float value = format::bf16_to_f32(base::load_le<std::uint16_t>(source, 2 * i));
    std::memcpy(&out[4 * i], &value, sizeof(value));
  }
  return out;
}

void set_gpt_oss_keys(const format::Json& config, const std::string& arch, format::GgufHeader& header) {
  const auto number = [&](const char* key) { return config.at(key, "config").as_uint(key); };
  header.set_u32(arch + "attention.sliding_window", static_cast<std::uint32_t>(number("sliding_window")));
  header.set_u32(arch + "expert_feed_forward_length",
                 static_cast<std::uint32_t>(number("intermediate_size")));
  const format::Json& rope = config.at("rope_scaling", "config");
  header.set_string(arch + "rope.scaling.type", "yarn");
  header.set_f32(arch + "rope.scaling.factor",
                 static_cast<float>(rope.at("factor", "rope").as_double("factor")));
  header.set_u32(
      arch + "rope.scaling.original_context_length",
      static_cast<std::uint32_t>(rope.at("original_max_position_embeddings", "rope").as_uint("context")));
}

/// Numbers of a config.json, by the key that llama.cpp's converter writes for them.
void set_model_keys(std::string_view family, const format::Json& config, format::GgufHeader& header) {
  const std::string arch = gguf_architecture(family) + ".";
  const auto uint = [&](const char* key) {
    return static_cast<std::uint32_t>(config.at(key, "config").as_uint(key));
  };
  const auto copy = [&](const char* from, const std::string& to) {
    if (const format::Json* value = config.find(from); value != nullptr && !value->is_null())
      header.set_u32(arch + to, uint(from));
  };
  const auto copy_float = [&](const char* from, const std::string& to) {
    if (const format::Json* value = config.find(from); value != nullptr)
      header.set_f32(arch + to, static_cast<float>(value->as_double(from)));
  };
  const std::uint32_t extra = config.find("num_nextn_predict_layers") == nullptr ? 0 : 1;
  header.set_u32(arch + "block_count", uint("num_hidden_layers") + extra);
  if (extra > 0) header.set_u32(arch + "nextn_predict_layers", extra);
  copy("max_position_embeddings", "context_length");
  copy("hidden_size", "embedding_length");
  copy("intermediate_size", "feed_forward_length");
  copy("num_attention_heads", "attention.head_count");
  if (family == "lfm2_moe") {
    std::vector<std::int32_t> heads;
    for (const format::Json& type : config.at("layer_types", "config").as_array("layer_types"))
      heads.push_back(type == format::Json("conv") ? 0
                                                   : static_cast<std::int32_t>(uint("num_key_value_heads")));
    header.set_i32s(arch + "attention.head_count_kv", heads);
  } else if (config.find("kv_lora_rank") == nullptr) {
    copy("num_key_value_heads", "attention.head_count_kv");
  }
  if (config.find("kv_lora_rank") == nullptr) copy("head_dim", "attention.key_length");
  if (config.find("kv_lora_rank") == nullptr) copy("head_dim", "attention.value_length");
  copy("rotary_dim", "rope.dimension_count");
  if (family == "glm4_moe") header.set_u32(arch + "rope.dimension_count", uint("head_dim") / 2);
  copy_float("rms_norm_eps", "attention.layer_norm_rms_epsilon");
  copy_float("norm_eps", "attention.layer_norm_rms_epsilon");
  copy_float("rope_theta", "rope.freq_base");
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) copy(key, "expert_count");
  copy("num_experts_per_tok", "expert_used_count");
  copy("moe_intermediate_size", "expert_feed_forward_length");
  if (family == "minimax_m2") copy("intermediate_size", "expert_feed_forward_length");
  copy("shared_expert_intermediate_size", "expert_shared_feed_forward_length");
  copy("n_shared_experts", "expert_shared_count");
  copy("first_k_dense_replace", "leading_dense_block_count");
  copy("num_dense_layers", "leading_dense_block_count");
  copy("conv_L_cache", "shortconv.l_cache");
  copy("n_group", "expert_group_count");
  copy("topk_group", "expert_group_used_count");
  copy_float("embedding_multiplier", "embedding_scale");
  copy_float("residual_multiplier", "residual_scale");
  copy_float("attention_multiplier", "attention.scale");
  copy_float("logits_scaling", "logit_scale");
  copy_float("routed_scaling_factor", "expert_weights_scale");
  copy("vocab_size", "vocab_size");
  if (family == "gpt_oss") set_gpt_oss_keys(config, arch, header);
  if (family == "glm4_moe" || family == "deepseek_v3" || family == "glm4_moe_lite")
    header.set_bool(arch + "expert_weights_norm", true);
  // Files of DeepSeek-V3 have the function, too, but those with a bias for choosing are read without it.
  if (family == "glm4_moe" || family == "minimax_m2" || family == "lfm2_moe" || family == "glm4_moe_lite")
    header.set_u32(arch + "expert_gating_func", 2);
}

/// Keys of latent attention. Newer files have the widths of the cache as those of keys and values.
void set_latent_keys(const format::Json& config, LatentHeads heads, format::GgufHeader& header) {
  const auto uint = [&](const char* key) {
    return static_cast<std::uint32_t>(config.at(key, "config").as_uint(key));
  };
  const auto set = [&](const char* key, std::uint32_t value) {
    header.set_u32(std::string("deepseek2.") + key, value);
  };
  const bool split = heads == LatentHeads::split;
  const std::uint32_t rank = uint("kv_lora_rank");
  const std::uint32_t rotary = uint("qk_rope_head_dim");
  const std::uint32_t head = uint("qk_nope_head_dim") + rotary;
  const format::Json* query_rank = config.find("q_lora_rank");
  if (query_rank != nullptr && !query_rank->is_null()) set("attention.q_lora_rank", uint("q_lora_rank"));
  set("attention.head_count_kv", split ? 1 : uint("num_key_value_heads"));
  set("attention.kv_lora_rank", rank);
  set("attention.key_length", split ? rank + rotary : head);
  set("attention.value_length", split ? rank : uint("v_head_dim"));
  if (split) set("attention.key_length_mla", head);
  if (split) set("attention.value_length_mla", uint("v_head_dim"));
  set("rope.dimension_count", rotary);
  const format::Json* yarn = config.find("rope_scaling");
  if (yarn == nullptr || yarn->is_null()) return;
  const auto number = [&](const char* key) {
    return static_cast<float>(yarn->at(key, "yarn").as_double(key));
  };
  header.set_string("deepseek2.rope.scaling.type", "yarn");
  header.set_f32("deepseek2.rope.scaling.factor", number("factor"));
  set("rope.scaling.original_context_length",
      static_cast<std::uint32_t>(number("original_max_position_embeddings")));
  header.set_f32("deepseek2.rope.scaling.yarn_log_multiplier", 0.1F * number("mscale_all_dim"));
}

/// [heads x (plain + value), rank] as [heads, rank, plain] and [heads, value, rank], in f32.
std::pair<RawTensor, RawTensor> split_heads(const RawTensor& tensor, const format::Json& config) {
  const std::uint64_t heads = config.at("num_attention_heads", "c").as_uint("c");
  const std::uint64_t plain = config.at("qk_nope_head_dim", "c").as_uint("c");
  const std::uint64_t value = config.at("v_head_dim", "c").as_uint("c");
  const std::uint64_t rank = tensor.shape[1];
  const auto element = [&](std::uint64_t row, std::uint64_t col) {
    return tensor.bytes.substr(2 * (row * rank + col), 2);
  };
  std::string keys;
  std::string values;
  for (std::uint64_t head = 0; head < heads; ++head) {
    const std::uint64_t first = head * (plain + value);
    for (std::uint64_t col = 0; col < rank; ++col)
      for (std::uint64_t row = 0; row < plain; ++row) keys += element(first + row, col);
    values += tensor.bytes.substr(2 * (first + plain) * rank, 2 * value * rank);
  }
  std::string prefix = tensor.name;
  replace(prefix, "attn_kv_b.weight", "");
  return {{prefix + "attn_k_b.weight", tensor.dtype, {heads, rank, plain}, keys},
          {prefix + "attn_v_b.weight", tensor.dtype, {heads, value, rank}, values}};
}

void set_tokenizer_keys(format::GgufHeader& header) {
  header.set_string("tokenizer.ggml.model", "llama");
  header.set_strings("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "</s>", "a"});
  header.set_f32s("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -1});
  header.set_i32s("tokenizer.ggml.token_type", std::vector<std::int32_t>{2, 3, 3, 1});
}

void write_plain(const std::filesystem::path& path, std::string_view text) {
  base::write_file(path, base::as_bytes(text));
}

}  // namespace

std::vector<RawTensor> make_family_tensors(const format::ModelDescription& description, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<RawTensor> tensors;
  for (const format::ModelTensor& tensor : model_tensors(description)) {
    const bool wide = tensor.role == format::TensorRole::router_selection_bias;
    const auto count = format::element_count(tensor.shape).value();
    RawTensor raw{tensor.name, wide ? DType::f32 : DType::bf16, tensor.shape, {}};
    for (std::uint64_t i = 0; i < count; ++i) {
      const float value = static_cast<float>(random() >> 40) / static_cast<float>(1 << 24) - 0.5F;
      const std::uint16_t half = format::f32_to_bf16(value);
      raw.bytes.append(wide ? reinterpret_cast<const char*>(&value) : reinterpret_cast<const char*>(&half),
                       wide ? sizeof(value) : sizeof(half));
    }
    tensors.push_back(std::move(raw));
  }
  return tensors;
}

std::vector<RawTensor> to_family_names(std::string_view family, FamilyNaming naming,
                                       const std::vector<RawTensor>& native) {
  // Granite and gpt-oss have fused experts since their first releases.
  const bool fused = naming == FamilyNaming::fused || family == "granitemoe" || family == "gpt_oss";
  std::vector<RawTensor> out;
  for (const RawTensor& tensor : native) {
    if (fused && !of_all_experts(tensor.name).empty()) continue;
    const auto [layer, rest] = split_layer(tensor.name);
    out.push_back(tensor);
    out.back().name = layer.empty() ? model_name(rest, false) : "model." + layer + hub_rest(family, rest);
    if (family == "lfm2_moe") replace(out.back().name, "model.norm.", "model.embedding_norm.");
    // A kernel has one channel of input for each channel of output.
    if (rest.ends_with("conv.weight")) out.back().shape.insert(out.back().shape.begin() + 1, 1);
  }
  if (family == "gpt_oss") {
    add_gpt_oss(native, out);
  } else if (fused) {
    add_fused(family, native, out);
  }
  return out;
}

void write_family_release(const std::filesystem::path& folder, std::string_view config,
                          const std::vector<RawTensor>& tensors) {
  write_plain(folder / "config.json", config);
  write_plain(folder / "model.safetensors", make_safetensors(tensors));
  format::SentencePieceModel tokenizer;
  tokenizer.algorithm = format::SentencePieceModel::Algorithm::bpe;
  tokenizer.pieces = {{"<unk>", 0, format::PieceType::unknown},
                      {"<s>", 0, format::PieceType::control},
                      {"</s>", 0, format::PieceType::control},
                      {"a", 0, format::PieceType::normal}};
  tokenizer.unk_id = 0;
  tokenizer.bos_id = 1;
  tokenizer.eos_id = 2;
  base::write_file(folder / "tokenizer.model", format::encode_sentencepiece(tokenizer));
}

std::string gguf_architecture(std::string_view family) {
  if (family == "minimax_m2") return "minimax-m2";
  if (family == "gpt_oss") return "gpt-oss";
  if (family.starts_with("deepseek") || family == "glm4_moe_lite") return "deepseek2";
  std::string name(family);
  std::erase(name, '_');
  return name;
}

void write_family_gguf(const std::filesystem::path& path, std::string_view family,
                       const std::vector<RawTensor>& native, LatentHeads heads) {
  format::GgufHeader header;
  header.set_string("general.architecture", gguf_architecture(family));
  const format::Json config = format::parse_json(small_config(family), "config");
  set_model_keys(family, config, header);
  if (config.find("kv_lora_rank") != nullptr) set_latent_keys(config, heads, header);
  set_tokenizer_keys(header);
  std::vector<RawTensor> tensors;
  for (const RawTensor& tensor : native) {
    if (!of_all_experts(tensor.name).empty()) continue;
    const auto [layer, rest] = split_layer(tensor.name);
    tensors.push_back(tensor);
    std::string block = layer;
    replace(block, "layers.", "blk.");
    tensors.back().name = layer.empty() ? model_name(rest, true) : block + gguf_rest(family, rest);
    if (family == "lfm2_moe") replace(tensors.back().name, "output_norm.", "token_embd_norm.");
    if (heads == LatentHeads::split && tensors.back().name.ends_with("attn_kv_b.weight")) {
      auto [keys, values] = split_heads(tensors.back(), config);
      tensors.back() = std::move(keys);
      tensors.push_back(std::move(values));
    }
    // The gate of a shared expert has one axis there.
    if (tensors.back().shape.size() == 2 && tensors.back().shape[0] == 1)
      tensors.back().shape = {tensors.back().shape[1]};
  }
  for (const auto& [name, stack] : stack_experts(native)) {
    const auto [layer, rest] = split_layer(name);
    tensors.push_back(stack);
    std::string block = layer;
    replace(block, "layers.", "blk.");
    tensors.back().name = block + gguf_rest(family, rest);
  }
  std::string data;
  for (const RawTensor& tensor : tensors) {
    const bool mxfp4 = tensor.dtype == DType::mxfp4;
    header.add_tensor(tensor.name, mxfp4 ? format::GgufTensorType::mxfp4 : format::GgufTensorType::f32,
                      tensor.shape);
    data += mxfp4 ? tensor.bytes : to_f32(tensor);
    data.resize((data.size() + 31) / 32 * 32);
  }
  write_plain(path, header.encode() + data);
}

}  // namespace sluice::tests
