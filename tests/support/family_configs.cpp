#include "tests/support/family_configs.h"

#include "base/invariant.h"
#include "format/json.h"

namespace sluice::tests {
namespace {

// Keys and values of the files on the hub, without those of training and of the loader.
constexpr const char* kQwen3 = R"({"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645,
  "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
  "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [],
  "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
  "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
  "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0,
  "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
  "vocab_size": 151936})";

constexpr const char* kQwen15 = R"({"architectures": ["Qwen2MoeForCausalLM"], "attention_dropout": 0.0,
  "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151643, "hidden_act": "silu",
  "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632, "max_position_embeddings": 8192,
  "max_window_layers": 21, "model_type": "qwen2_moe", "moe_intermediate_size": 1408, "norm_topk_prob": false,
  "num_attention_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "num_hidden_layers": 24,
  "num_key_value_heads": 16, "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 5632, "sliding_window": 32768,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true, "use_sliding_window": false,
  "vocab_size": 151936})";

constexpr const char* kOlmoe = R"({"architectures": ["OlmoeForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "clip_qkv": null, "eos_token_id": 50279, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 1024, "max_position_embeddings": 4096, "model_type": "olmoe",
  "norm_topk_prob": false, "num_attention_heads": 16, "num_experts": 64, "num_experts_per_tok": 8,
  "num_hidden_layers": 16, "num_key_value_heads": 16, "output_router_logits": false, "pad_token_id": 1,
  "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0, "router_aux_loss_coef": 0.01,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 50304})";

constexpr const char* kGranite = R"({"architectures": ["GraniteMoeForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.1, "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0,
  "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
  "intermediate_size": 512, "logits_scaling": 6.0, "max_position_embeddings": 4096, "model_type": "granitemoe",
  "num_attention_heads": 16, "num_experts_per_tok": 8, "num_hidden_layers": 24, "num_key_value_heads": 8,
  "num_local_experts": 32, "output_router_logits": false, "pad_token_id": 0, "residual_multiplier": 0.22,
  "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 10000, "router_aux_loss_coef": 0.0,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 49155})";

constexpr const char* kGlm = R"({"architectures": ["Glm4MoeForCausalLM"], "attention_bias": true,
  "attention_dropout": 0.0, "eos_token_id": [151329, 151336, 151338], "first_k_dense_replace": 1,
  "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
  "intermediate_size": 10944, "max_position_embeddings": 131072, "model_type": "glm4_moe",
  "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 128, "n_shared_experts": 1,
  "norm_topk_prob": true, "num_attention_heads": 96, "num_experts_per_tok": 8, "num_hidden_layers": 46,
  "num_key_value_heads": 8, "num_nextn_predict_layers": 1, "pad_token_id": 151329,
  "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 1000000,
  "routed_scaling_factor": 1.0, "tie_word_embeddings": false, "topk_group": 1, "torch_dtype": "bfloat16",
  "use_cache": true, "use_qk_norm": false, "vocab_size": 151552})";

constexpr const char* kMinimax = R"({"architectures": ["MiniMaxM2ForCausalLM"],
  "attn_type_list": [1, 1, 1, 1, 1, 1],
  "auto_map": {"AutoConfig": "configuration_minimax_m2.MiniMaxM2Config"}, "dtype": "bfloat16", "head_dim": 128,
  "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 1536, "max_position_embeddings": 204800,
  "model_type": "minimax_m2", "mtp_transformer_layers": 1, "num_attention_heads": 48, "num_experts_per_tok": 8,
  "num_hidden_layers": 62, "num_key_value_heads": 8, "num_local_experts": 256, "num_mtp_modules": 3,
  "qk_norm_type": "per_layer",
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "float8_e4m3fn", "quant_method": "fp8",
    "weight_block_size": [128, 128], "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]},
  "rms_norm_eps": 1e-06, "rope_theta": 5000000, "rotary_dim": 64, "scoring_func": "sigmoid",
  "shared_intermediate_size": 0, "tie_word_embeddings": false, "use_cache": true, "use_mtp": true,
  "use_qk_norm": true, "use_routing_bias": true, "vocab_size": 200064})";

struct Change {
  const char* key;
  const char* value;
};

std::string changed_all(std::string text, std::initializer_list<Change> changes) {
  for (const auto& [key, value] : changes) text = changed_text(text, key, value);
  return text;
}

}  // namespace

std::vector<PublishedConfig> published_configs() {
  return {
      {"Qwen3-30B-A3B", 30.53, true, kQwen3},
      {"Qwen3-235B-A22B", 235.09, false,
       changed_all(kQwen3, {{"hidden_size", "4096"},
                            {"intermediate_size", "12288"},
                            {"max_window_layers", "94"},
                            {"moe_intermediate_size", "1536"},
                            {"num_attention_heads", "64"},
                            {"num_hidden_layers", "94"}})},
      {"Qwen3-Coder-480B-A35B", 480.15, false,
       changed_all(kQwen3, {{"hidden_size", "6144"},
                            {"intermediate_size", "8192"},
                            {"max_window_layers", "62"},
                            {"moe_intermediate_size", "2560"},
                            {"num_attention_heads", "96"},
                            {"num_experts", "160"},
                            {"num_hidden_layers", "62"},
                            {"num_key_value_heads", "8"},
                            {"rope_theta", "10000000"}})},
      {"Qwen1.5-MoE-A2.7B", 14.32, true, kQwen15},
      {"OLMoE-1B-7B", 6.92, true, kOlmoe},
      {"Granite-3-1b-a400m", 1.33, true, kGranite},
      {"Granite-3-3b-a800m", 3.30, false,
       changed_all(kGranite, {{"hidden_size", "1536"},
                              {"logits_scaling", "6.0"},
                              {"num_attention_heads", "24"},
                              {"num_hidden_layers", "32"},
                              {"num_local_experts", "40"}})},
      {"GLM-4.5-Air", 106.85, true, kGlm},
      {"GLM-4.7", 352.80, false,
       changed_all(kGlm, {{"first_k_dense_replace", "3"},
                          {"hidden_size", "5120"},
                          {"intermediate_size", "12288"},
                          {"moe_intermediate_size", "1536"},
                          {"n_routed_experts", "160"},
                          {"num_hidden_layers", "92"},
                          {"routed_scaling_factor", "2.5"},
                          {"use_qk_norm", "true"}})},
      {"MiniMax-M2.7", 228.69, true, kMinimax},
  };
}

std::vector<const char*> small_families() {
  return {"qwen3_moe", "qwen2_moe", "olmoe", "granitemoe", "glm4_moe", "minimax_m2"};
}

std::string small_config(std::string_view family) {
  const auto small = [](const char* text, std::initializer_list<Change> changes) {
    return changed_all(changed_all(text, {{"hidden_size", "96"},
                                          {"num_hidden_layers", "6"},
                                          {"num_attention_heads", "6"},
                                          {"num_key_value_heads", "2"},
                                          {"num_experts_per_tok", "4"},
                                          {"vocab_size", "300"},
                                          {"bos_token_id", ""},
                                          {"eos_token_id", ""},
                                          {"pad_token_id", ""}}),
                       changes);
  };
  if (family == "qwen3_moe")
    return small(kQwen3, {{"head_dim", "20"},
                          {"intermediate_size", "300"},
                          {"moe_intermediate_size", "44"},
                          {"num_experts", "12"}});
  if (family == "qwen2_moe")
    return small(kQwen15, {{"intermediate_size", "300"},
                           {"moe_intermediate_size", "36"},
                           {"num_experts", "15"},
                           {"shared_expert_intermediate_size", "84"}});
  if (family == "olmoe")
    return small(kOlmoe, {{"intermediate_size", "52"}, {"num_experts", "16"}, {"num_key_value_heads", "6"}});
  if (family == "granitemoe")
    return small(kGranite, {{"intermediate_size", "44"}, {"num_local_experts", "10"}});
  if (family == "glm4_moe")
    return small(kGlm, {{"head_dim", "24"},
                        {"intermediate_size", "216"},
                        {"moe_intermediate_size", "40"},
                        {"n_routed_experts", "16"}});
  INVARIANT(family == "minimax_m2");
  return small(
      kMinimax,
      {{"head_dim", "32"}, {"intermediate_size", "52"}, {"num_local_experts", "14"}, {"rotary_dim", "16"}});
}

std::string changed_text(const std::string& text, std::string_view key, std::string_view value) {
  const format::Json original = format::parse_json(text, "original");
  format::Json json = format::Json::object();
  for (const auto& [name, member] : original.as_object("original"))
    if (name != key) json.set(name, member);
  if (!value.empty()) json.set(std::string(key), format::parse_json(value, "value"));
  return json.dump();
}

std::string changed_config(std::string_view family, std::string_view key, std::string_view value) {
  return changed_text(small_config(family), key, value);
}

}  // namespace sluice::tests
