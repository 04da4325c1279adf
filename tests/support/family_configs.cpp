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

constexpr const char* kQwen3Next = R"({"architectures": ["Qwen3NextForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645,
  "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 5120, "linear_conv_kernel_dim": 4,
  "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
  "linear_value_head_dim": 128, "max_position_embeddings": 262144, "mlp_only_layers": [],
  "model_type": "qwen3_next", "moe_intermediate_size": 512, "norm_topk_prob": true, "num_attention_heads": 16,
  "num_experts": 512, "num_experts_per_tok": 10, "num_hidden_layers": 48, "num_key_value_heads": 2,
  "output_router_logits": false, "partial_rotary_factor": 0.25, "rms_norm_eps": 1e-06, "rope_scaling": null,
  "rope_theta": 10000000, "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 512,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.57.0.dev0",
  "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})";

// The text part of models that read images; whole() puts it where they have it.
constexpr const char* kQwen36 = R"({"architectures": ["Qwen3_5MoeForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "attn_output_gate": true, "bos_token_id": 248044, "dtype": "bfloat16",
  "eos_token_id": 248044, "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu",
  "hidden_size": 2048, "initializer_range": 0.02, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
  "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
  "mamba_ssm_dtype": "float32", "max_position_embeddings": 262144, "mlp_only_layers": [],
  "model_type": "qwen3_5_moe_text", "moe_intermediate_size": 512, "mtp_num_hidden_layers": 1,
  "mtp_use_dedicated_embeddings": false, "num_attention_heads": 16, "num_experts": 256,
  "num_experts_per_tok": 8, "num_hidden_layers": 40, "num_key_value_heads": 2, "output_router_logits": false,
  "rms_norm_eps": 1e-06, "rope_parameters": {"mrope_interleaved": true, "mrope_section": [11, 11, 10],
    "partial_rotary_factor": 0.25, "rope_theta": 10000000, "rope_type": "default"},
  "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 512, "tie_word_embeddings": false,
  "use_cache": true, "vocab_size": 248320})";

constexpr const char* kGemma4 = R"({"architectures": ["Gemma4ForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "attention_k_eq_v": true, "bos_token_id": 2, "dtype": "bfloat16",
  "enable_moe_block": true, "eos_token_id": 1, "final_logit_softcapping": 30.0, "global_head_dim": 512,
  "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2816,
  "hidden_size_per_layer_input": 0, "initializer_range": 0.02, "intermediate_size": 2112,
  "max_position_embeddings": 262144, "model_type": "gemma4_text", "moe_intermediate_size": 704,
  "num_attention_heads": 16, "num_experts": 128, "num_global_key_value_heads": 2, "num_hidden_layers": 30,
  "num_key_value_heads": 8, "num_kv_shared_layers": 0, "pad_token_id": 0, "rms_norm_eps": 1e-06,
  "rope_parameters": {
    "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
  "sliding_window": 1024, "tie_word_embeddings": true, "top_k_experts": 8,
  "use_bidirectional_attention": "vision", "use_cache": true, "use_double_wide_mlp": false,
  "vocab_size": 262144, "vocab_size_per_layer_input": 262144})";

constexpr const char* kLfm2 = R"({"architectures": ["Lfm2MoeForCausalLM"], "bos_token_id": 1,
  "conv_L_cache": 3, "conv_bias": false, "dtype": "bfloat16", "eos_token_id": 7, "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 7168, "layer_types": ["conv", "conv", "full_attention",
    "conv", "conv", "conv", "full_attention", "conv", "conv", "conv", "full_attention", "conv", "conv", "conv",
    "full_attention", "conv", "conv", "conv", "full_attention", "conv", "conv", "full_attention", "conv",
    "conv"],
  "max_position_embeddings": 128000, "model_type": "lfm2_moe", "moe_intermediate_size": 1792,
  "norm_eps": 1e-05, "norm_topk_prob": true, "num_attention_heads": 32, "num_dense_layers": 2,
  "num_experts": 32, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
  "pad_token_id": 0, "rope_theta": 1000000.0, "routed_scaling_factor": 1.0, "tie_embedding": true,
  "transformers_version": "4.56.1", "use_cache": true, "use_expert_bias": true, "vocab_size": 65536})";
constexpr const char* kDeepseekV2Lite = R"({"architectures": ["DeepseekV2ForCausalLM"],
  "attention_bias": false, "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"}, "aux_loss_alpha": 0.001,
  "bos_token_id": 100000, "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu",
  "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 10944, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408,
  "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false,
  "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
  "pretraining_tp": 1, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16",
  "transformers_version": "4.33.1", "use_cache": true, "v_head_dim": 128, "vocab_size": 102400})";

constexpr const char* kDeepseekV3 = R"({"architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
  "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
  "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02, "intermediate_size": 18432,
  "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
  "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
  "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128, "num_experts_per_tok": 8,
  "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
    "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
  "transformers_version": "4.46.3", "use_cache": true, "v_head_dim": 128, "vocab_size": 129280})";

constexpr const char* kGlmFlash = R"({"architectures": ["Glm4MoeLiteForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "eos_token_id": [154820, 154827, 154829], "first_k_dense_replace": 1,
  "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
  "intermediate_size": 10240, "kv_lora_rank": 512, "max_position_embeddings": 202752,
  "model_type": "glm4_moe_lite", "moe_intermediate_size": 1536, "moe_layer_freq": 1, "n_group": 1,
  "n_routed_experts": 64, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 20,
  "num_experts_per_tok": 4, "num_hidden_layers": 47, "num_key_value_heads": 20, "num_nextn_predict_layers": 1,
  "pad_token_id": 154820, "partial_rotary_factor": 1.0, "q_lora_rank": 768, "qk_nope_head_dim": 192,
  "qk_rope_head_dim": 64, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 1000000,
  "routed_scaling_factor": 1.8, "scoring_func": "sigmoid", "tie_word_embeddings": false, "topk_group": 1,
  "topk_method": "noaux_tc", "dtype": "bfloat16", "transformers_version": "5.0.0rc0", "v_head_dim": 256,
  "vocab_size": 154880})";

constexpr const char* kMistralSmall4 = R"({"dim": 4096, "n_layers": 36, "head_dim": 128, "hidden_dim": 12288,
  "n_heads": 32, "n_kv_heads": 32, "rope_theta": 10000.0, "norm_eps": 1e-06, "vocab_size": 131072,
  "tied_embeddings": false, "max_position_embeddings": 1048576, "q_lora_rank": 1024, "qk_rope_head_dim": 64,
  "qk_nope_head_dim": 64, "kv_lora_rank": 256, "v_head_dim": 128,
  "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
  "yarn": {"original_max_position_embeddings": 8192, "factor": 128, "apply_scale": false, "beta": 32,
    "alpha": 1},
  "moe": {"expert_parallel": 1, "expert_model_parallel": 1, "route_every_n": 1, "first_k_dense_replace": 0,
    "num_experts": 128, "num_experts_per_tok": 4, "num_expert_groups": 1, "num_expert_groups_per_tok": 1,
    "routed_scale": 1.0, "expert_hidden_dim": 2048, "num_shared_experts": 1, "renorm_strategy": "WEIGHTS",
    "use_load_balancing_bias": false},
  "llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1},
  "vision_encoder": {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14}})";

// The same model in the layout of transformers.
constexpr const char* kMistral4Hub = R"({"architectures": ["Mistral3ForConditionalGeneration"],
  "dtype": "bfloat16", "image_token_index": 10, "model_type": "mistral3", "multimodal_projector_bias": false,
  "projector_hidden_act": "gelu",
  "quantization_config": {"activation_scheme": "static", "quant_method": "fp8", "weight_block_size": null,
    "modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector", "lm_head"]},
  "spatial_merge_size": 2, "text_config": {"attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": 2, "first_k_dense_replace": 0, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 12288, "kv_lora_rank": 256,
    "max_position_embeddings": 1048576, "model_type": "mistral4", "moe_intermediate_size": 2048, "n_group": 1,
    "n_routed_experts": 128, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 32,
    "num_experts_per_tok": 4, "num_hidden_layers": 36, "num_key_value_heads": 32, "pad_token_id": 11,
    "pretraining_tp": 1, "q_lora_rank": 1024, "qk_head_dim": 128, "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_interleave": true,
    "rope_parameters": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 128.0, "llama_4_scaling_beta": 0.1,
      "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 8192,
      "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "rope_type": "yarn", "type": "yarn"},
    "routed_scaling_factor": 1.0, "sliding_window": null, "tie_word_embeddings": false, "topk_group": 1,
    "use_cache": true, "v_head_dim": 128, "vocab_size": 131072},
  "tie_word_embeddings": false, "vision_config": {"hidden_size": 1024, "model_type": "pixtral"},
  "vision_feature_layer": -1})";
constexpr const char* kGptOss = R"({"architectures": ["GptOssForCausalLM"], "attention_bias": true,
  "attention_dropout": 0.0, "eos_token_id": 200002, "experts_per_token": 4, "head_dim": 64,
  "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096, "initializer_range": 0.02,
  "intermediate_size": 2880, "layer_types": [
    "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
    "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
    "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
  "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_attention_heads": 64,
  "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32,
  "output_router_logits": false, "pad_token_id": 199999,
  "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
    "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"},
  "rms_norm_eps": 1e-05, "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
    "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": false},
  "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
  "tie_word_embeddings": false, "transformers_version": "4.55.0.dev0", "use_cache": true,
  "vocab_size": 201088})";

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
      {"Qwen3-Next-80B-A3B", 79.67, false, kQwen3Next},
      {"Qwen3.6-35B-A3B", 34.66, true, whole_config(kQwen36)},
      {"Qwen3.5-122B-A10B", 122.11, false,
       whole_config(changed_all(kQwen36, {{"hidden_size", "3072"},
                                          {"linear_num_value_heads", "64"},
                                          {"moe_intermediate_size", "1024"},
                                          {"num_attention_heads", "32"},
                                          {"num_hidden_layers", "48"},
                                          {"shared_expert_intermediate_size", "1024"}}))},
      {"Gemma-4-26B-A4B", 25.23, true, whole_config(kGemma4)},
      {"LFM2-8B-A1B", 8.34, true, kLfm2},
      {"DeepSeek-V2-Lite", 15.71, true, kDeepseekV2Lite},
      {"DeepSeek-V2", 235.74, true,
       changed_all(kDeepseekV2Lite, {{"hidden_size", "5120"},
                                     {"intermediate_size", "12288"},
                                     {"moe_intermediate_size", "1536"},
                                     {"n_group", "8"},
                                     {"n_routed_experts", "160"},
                                     {"num_attention_heads", "128"},
                                     {"num_hidden_layers", "60"},
                                     {"num_key_value_heads", "128"},
                                     {"q_lora_rank", "1536"},
                                     {"routed_scaling_factor", "16.0"},
                                     {"topk_group", "3"},
                                     {"topk_method", "\"group_limited_greedy\""}})},
      {"DeepSeek-V3", 671.03, true, kDeepseekV3},
      {"Kimi-K2", 1026.41, true,
       changed_all(kDeepseekV3,
                   {{"first_k_dense_replace", "1"},
                    {"model_type", "\"kimi_k2\""},
                    {"n_group", "1"},
                    {"n_routed_experts", "384"},
                    {"num_attention_heads", "64"},
                    {"num_key_value_heads", "64"},
                    {"num_nextn_predict_layers", "0"},
                    {"rope_scaling", R"({"beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0, "mscale": 1.0,
                      "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"})"},
                    {"rope_theta", "50000.0"},
                    {"routed_scaling_factor", "2.827"},
                    {"topk_group", "1"},
                    {"vocab_size", "163840"}})},
      {"GLM-4.7-Flash", 29.94, true, kGlmFlash},
      {"Mistral-Small-4-119B", 118.97, true, kMistralSmall4},
      {"Mistral-Small-4-119B", 118.97, true, kMistral4Hub},
      {"Mistral-Large-3", 673.42, false,
       changed_all(kMistralSmall4, {{"dim", "7168"},
                                    {"hidden_dim", "16384"},
                                    {"kv_lora_rank", "512"},
                                    {"moe", R"({"expert_hidden_dim": 4096, "first_k_dense_replace": 3,
                                      "num_experts": 128, "num_experts_per_tok": 4, "num_shared_experts": 1,
                                      "route_every_n": 1, "routed_scale": 1.0})"},
                                    {"n_heads", "128"},
                                    {"n_kv_heads", "128"},
                                    {"n_layers", "61"},
                                    {"q_lora_rank", "1536"},
                                    {"qk_nope_head_dim", "128"}})},
      {"gpt-oss-20b", 20.91, true, kGptOss},
      {"gpt-oss-120b", 116.83, false,
       changed_all(kGptOss,
                   {{"layer_types", ""}, {"num_hidden_layers", "36"}, {"num_local_experts", "128"}})},
  };
}

std::vector<const char*> small_families() {
  return {"qwen3_moe",  "qwen2_moe",        "olmoe",       "granitemoe", "glm4_moe", "minimax_m2",
          "qwen3_next", "qwen3_5_moe_text", "gemma4_text", "lfm2_moe",   "gpt_oss"};
}

std::vector<const char*> small_gguf_families() {
  return {"qwen3_moe", "qwen2_moe", "olmoe", "granitemoe", "glm4_moe", "minimax_m2", "gpt_oss", "lfm2_moe"};
}

std::string whole_config(const std::string& text) {
  format::Json part = format::parse_json(text, "text");
  const bool gemma = part.at("model_type", "text") == format::Json("gemma4_text");
  const std::string name = gemma ? "Gemma4ForConditionalGeneration" : "Qwen3_5MoeForConditionalGeneration";
  format::Json whole = format::Json::object();
  whole.set("architectures", format::Json::array({name}));
  if (gemma) whole.set("audio_config", format::Json(nullptr));
  whole.set("image_token_id", format::Json(258880));
  whole.set("model_type", format::Json(gemma ? "gemma4" : "qwen3_5_moe"));
  whole.set("text_config", format::parse_json(changed_text(text, "architectures", ""), "text"));
  whole.set("tie_word_embeddings", format::Json(gemma));
  whole.set("transformers_version", format::Json("5.5.0.dev0"));
  whole.set("vision_config", format::parse_json(R"({"depth": 27, "hidden_size": 1152})", "vision"));
  if (gemma) whole.set("vision_soft_tokens_per_image", format::Json(280));
  return whole.dump();
}

std::vector<const char*> latent_families() { return {"deepseek_v2", "deepseek_v3", "glm4_moe_lite"}; }

namespace {

/// `text` with the sizes of a small latent attention and its experts.
std::string small_latent(const std::string& text, std::initializer_list<Change> changes) {
  return changed_all(changed_all(text, {{"num_key_value_heads", "6"},
                                        {"kv_lora_rank", "40"},
                                        {"qk_nope_head_dim", "20"},
                                        {"qk_rope_head_dim", "12"},
                                        {"v_head_dim", "28"},
                                        {"intermediate_size", "216"},
                                        {"moe_intermediate_size", "36"},
                                        {"n_routed_experts", "16"},
                                        {"quantization_config", ""}}),
                     changes);
}

}  // namespace

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
  if (family == "qwen3_next" || family == "qwen3_5_moe_text")
    return small(family == "qwen3_next" ? kQwen3Next : kQwen36, {{"head_dim", "32"},
                                                                 {"linear_key_head_dim", "12"},
                                                                 {"linear_num_key_heads", "2"},
                                                                 {"linear_num_value_heads", "6"},
                                                                 {"linear_value_head_dim", "20"},
                                                                 {"moe_intermediate_size", "28"},
                                                                 {"num_experts", "14"},
                                                                 {"shared_expert_intermediate_size", "36"}});
  if (family == "gemma4_text")
    return small(kGemma4, {{"global_head_dim", "32"},
                           {"head_dim", "16"},
                           {"intermediate_size", "84"},
                           {"moe_intermediate_size", "28"},
                           {"num_experts", "12"},
                           {"num_experts_per_tok", ""},
                           {"num_global_key_value_heads", "1"},
                           {"sliding_window", "12"},
                           {"top_k_experts", "4"}});
  if (family == "lfm2_moe")
    return small(kLfm2,
                 {{"intermediate_size", "184"},
                  {"layer_types", R"(["conv","conv","full_attention","conv","full_attention","conv"])"},
                  {"moe_intermediate_size", "44"},
                  {"num_experts", "12"}});
  if (family == "deepseek_v2") return small_latent(small(kDeepseekV2Lite, {}), {});
  if (family == "deepseek_v3")
    return small_latent(small(kDeepseekV3, {}),
                        {{"q_lora_rank", "48"}, {"n_group", "4"}, {"topk_group", "2"}});
  if (family == "glm4_moe_lite")
    return small_latent(small(kGlmFlash, {}), {{"q_lora_rank", "48"}, {"head_dim", "12"}});
  if (family == "mistral")
    return changed_all(kMistralSmall4, {{"dim", "96"},
                                        {"n_layers", "6"},
                                        {"head_dim", "32"},
                                        {"hidden_dim", "200"},
                                        {"n_heads", "6"},
                                        {"n_kv_heads", "6"},
                                        {"vocab_size", "300"},
                                        {"q_lora_rank", "48"},
                                        {"qk_rope_head_dim", "12"},
                                        {"qk_nope_head_dim", "20"},
                                        {"kv_lora_rank", "40"},
                                        {"v_head_dim", "28"},
                                        {"quantization", ""},
                                        {"moe", R"({"first_k_dense_replace": 1, "num_experts": 12,
                                          "num_experts_per_tok": 4, "num_expert_groups": 1,
                                          "num_expert_groups_per_tok": 1, "routed_scale": 1.0,
                                          "expert_hidden_dim": 36, "num_shared_experts": 2})"}});
  if (family == "gpt_oss")
    return small(kGptOss, {{"head_dim", "16"},
                           {"intermediate_size", "64"},
                           {"layer_types", ""},
                           {"num_local_experts", "7"},
                           {"sliding_window", "24"}});
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
