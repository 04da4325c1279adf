#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "format/hub/architecture.h"
#include "format/mistral_params.h"
#include "tests/support/check_error.h"

namespace sluice::format {
namespace {

using base::ErrorKind;

// params.json of Mixtral 8x7B, with the values that its first users quoted.
constexpr const char* kMixtral = R"({"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336,
  "n_heads": 32, "n_kv_heads": 8, "norm_eps": 1e-05, "vocab_size": 32000,
  "moe": {"num_experts_per_tok": 2, "num_experts": 8}})";

// params.json of Mistral-7B-v0.1.
constexpr const char* kMistral7b = R"({"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336,
  "n_heads": 32, "n_kv_heads": 8, "norm_eps": 1e-05, "sliding_window": 4096, "vocab_size": 32000})";

// The variant that came with the early upload in eight shards, where the window is a string.
constexpr const char* kHubDialect =
    R"({"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
  "num_key_value_heads": 8, "intermediate_size": 14336, "num_local_experts": 8, "rms_norm_eps": 1e-05,
  "rope_theta": 1000000.0, "vocab_size": 32000, "sliding_window": "4096"})";

MistralParams mixtral() {
  MistralParams params;
  params.dim = 4096;
  params.n_layers = 32;
  params.head_dim = 128;
  params.hidden_dim = 14336;
  params.n_heads = 32;
  params.n_kv_heads = 8;
  params.vocab_size = 32000;
  params.num_experts = 8;
  params.num_experts_per_tok = 2;
  params.norm_eps = 1e-5;
  params.rope_theta = 1e6;
  return params;
}

/// The text of Mixtral's params.json with one member changed, or removed when the value is empty.
std::string changed(std::string_view key, std::string_view value, const char* text = kMixtral) {
  const Json original = parse_json(text, "original");
  Json json = Json::object();
  for (const auto& [name, member] : original.as_object("original")) {
    if (name != key) json.set(name, member);
  }
  if (!value.empty()) json.set(std::string(key), parse_json(value, "value"));
  return json.dump();
}

TEST_CASE("params.json of Mixtral, in both dialects") {
  CHECK(parse_params(kMixtral, "p") == mixtral());
  MistralParams with_window = mixtral();
  with_window.sliding_window = 4096;
  CHECK(parse_params(kHubDialect, "p") == with_window);
  with_window.num_experts_per_tok = 3;
  with_window.head_dim = 64;
  CHECK(parse_params(changed("head_dim", "64", changed("num_experts_per_tok", "3", kHubDialect).c_str()),
                     "p") == with_window);
}

TEST_CASE("the demo release's params.json") {
  const auto path = std::string(SLUICE_DEMO_RELEASE) + "/params.json";
  const MistralParams params = parse_params(base::read_text_file(path), path);
  CHECK(params.dim == 256);
  CHECK(params.n_layers == 4);
  CHECK(params.num_experts == 8);
  CHECK(params.rope_theta == 1e6);
  CHECK(params.num_experts_per_tok == 2);
}

TEST_CASE("a model without `moe` is dense, and a missing rope_theta follows from the sliding window") {
  const MistralParams dense = parse_params(kMistral7b, "p");
  CHECK(dense.num_experts == 0);
  CHECK(dense.num_experts_per_tok == 0);
  CHECK(dense.sliding_window == 4096);
  CHECK(dense.rope_theta == 1e4);
  CHECK(parse_params(changed("sliding_window", "null", kMistral7b), "p").rope_theta == 1e6);
  CHECK(parse_params(changed("sliding_window", "", kMistral7b), "p").rope_theta == 1e6);
  CHECK(parse_params(changed("rope_theta", "5e5", kMistral7b), "p").rope_theta == 5e5);
  CHECK(parse_params(changed("rope_theta", "null", kMistral7b), "p").rope_theta == 1e4);
  CHECK(parse_params(changed("sliding_window", "\"None\"", kHubDialect), "p").sliding_window == std::nullopt);
}

TEST_CASE("parameters go to JSON and back") {
  for (const char* text : {kMixtral, kMistral7b, kHubDialect}) {
    const MistralParams params = parse_params(text, "p");
    CHECK(parse_params(to_json(params).dump(), "again") == params);
    CHECK(params_from_json(to_json(params), "again") == params);
  }
}

TEST_CASE("keys that cannot change the result are accepted, all others are refused by name") {
  for (const auto& [key, value] : {std::pair{"max_seq_len", "32768"},
                                   {"max_batch_size", "4"},
                                   {"use_biases", "false"},
                                   {"rope_scaling", "null"},
                                   {"model_type", "\"transformer\""}}) {
    CHECK(parse_params(changed(key, value), "p") == mixtral());
  }
  CHECK_ERROR(parse_params(changed("use_biases", "true"), "params.json"), ErrorKind::malformed,
              "params.json: key \"use_biases\" with value true is not known, and may change the result");
  CHECK_ERROR(parse_params(changed("q_lora_rank", "512"), "p"), ErrorKind::malformed, "key \"q_lora_rank\"");
  CHECK_ERROR(parse_params(changed("num_local_experts", "8"), "p"), ErrorKind::malformed,
              "\"num_local_experts\"");
  CHECK_ERROR(
      parse_params(changed("moe", R"({"num_experts":8,"num_experts_per_tok":2,"num_shared":1})"), "p"),
      ErrorKind::malformed, "p: key 'moe': unknown key 'num_shared'");
  CHECK_ERROR(parse_params(changed("dim", "4096", kHubDialect), "p"), ErrorKind::malformed, "two dialects");
}

TEST_CASE(
    "keys of fine-tunes are taken when they are bookkeeping, and refused when they may change the result") {
  struct Case {
    const char* key;
    const char* value;
  };
  for (const auto& [key, value] : {
           Case{"eos_token_id", "[2, 32000]"},
           Case{"eos_token_id", "32000"},
           Case{"bos_token_id", "null"},
           Case{"sep_token_id", "5"},
           Case{"rope_scaling", R"({"rope_type": "default"})"},
           Case{"rope_scaling", R"({"type": "linear", "factor": 1.0})"},
           Case{"rope_scaling", "{}"},
           Case{"unsloth_version", "\"2024.9\""},
           Case{"unsloth_fixed", "true"},
           Case{"_attn_implementation_autoset", "true"},
           Case{"_flash_attn_2_enabled", "true"},
           Case{"pretraining_tp", "1"},
           Case{"hidden_dropout_prob", "0.1"},
           Case{"router_z_loss_coef", "0.001"},
           Case{"use_sliding_window", "false"},
           Case{"attention_bias", "false"},
           Case{"pruned_heads", "{}"},
           Case{"chunk_size_feed_forward", "0"},
           Case{"add_cross_attention", "false"},
           Case{"cross_attention_hidden_size", "null"},
           Case{"final_logit_softcapping", "null"},
           Case{"logits_scaling", "1.0"},
           Case{"residual_multiplier", "1"},
           Case{"norm_topk_prob", "true"},
           Case{"num_nextn_predict_layers", "0"},
           Case{"layer_types", R"(["full_attention"])"},
       }) {
    CAPTURE(key);
    CAPTURE(value);
    std::vector<std::string> skipped;
    CHECK(parse_params(changed(key, value), "p", &skipped) == mixtral());
    CHECK(skipped.empty());
  }
  for (const auto& [key, value] : {
           Case{"attention_bias", "true"},
           Case{"rope_scaling", R"({"rope_type": "yarn", "factor": 4})"},
           Case{"rope_scaling", R"({"type": "linear", "factor": 2.0})"},
           Case{"hidden_act", "\"gelu\""},
           Case{"norm_topk_prob", "false"},
           Case{"normalize_router_weights", "false"},
           Case{"num_shared_experts", "1"},
           Case{"final_logit_softcapping", "30.0"},
           Case{"logits_scaling", "0.5"},
           Case{"embedding_multiplier", "12"},
           Case{"attentionScale", "2"},
           Case{"partial_rotary_factor", "0.5"},
           Case{"kv_lora_rank", "512"},
           Case{"qk_norm", "true"},
           Case{"first_k_dense_replace", "1"},
           Case{"n_group", "8"},
           Case{"topk_method", "\"noaux_tc\""},
           Case{"attention_chunk_size", "8192"},
           Case{"sliding_window_pattern", "6"},
           Case{"is_encoder_decoder", "true"},
       }) {
    CAPTURE(key);
    CHECK_ERROR(parse_params(changed(key, value), "p"), ErrorKind::malformed,
                "p: key \"" + std::string(key) + "\" with value " + parse_json(value, "v").dump() +
                    " is not known, and may change the result");
  }
  std::vector<std::string> skipped;
  CHECK(parse_params(changed("tokenizer_class", "\"LlamaTokenizer\"", changed("my_note", "1").c_str()), "p",
                     &skipped) == mixtral());
  CHECK(skipped == std::vector<std::string>{"my_note", "tokenizer_class"});
}

TEST_CASE("keys about the window must agree with it") {
  CHECK_ERROR(
      parse_params(changed("use_sliding_window", "false", kHubDialect), "p"), ErrorKind::malformed,
      "p: key 'use_sliding_window': has the value false, which is not supported, expected true, or no "
      "'sliding_window'");
  CHECK(parse_params(changed("use_sliding_window", "true", kHubDialect), "p").sliding_window == 4096);
  CHECK_ERROR(parse_params(changed("layer_types", R"(["full_attention"])", kHubDialect), "p"),
              ErrorKind::malformed, "expected \"sliding_attention\" for every layer");
}

TEST_CASE("an architecture that is not supported is named first of all, with those that are") {
  const std::string supported = "supported are " + supported_architectures();
  CHECK(
      supported.starts_with("supported are MixtralForCausalLM (model_type mixtral), MistralForCausalLM "
                            "(model_type mistral), Qwen3MoeForCausalLM (model_type qwen3_moe), "));
  struct Case {
    const char* text;
    const char* found;
  };
  for (const auto& [text, found] : {
           Case{R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "clip_qkv": 3})",
                "Qwen3ForCausalLM (model_type qwen3)"},
           Case{R"({"model_type": "phimoe", "kv_lora_rank": 512})", "model_type 'phimoe'"},
           Case{R"({"architectures": ["Olmo2ForCausalLM"]})", "Olmo2ForCausalLM"},
           Case{R"({"architectures": ["PhimoeForCausalLM"], "model_type": "mixtral"})",
                "PhimoeForCausalLM (model_type mixtral)"},
           Case{R"({"architectures": ["A\u001b[2J"], "model_type": "x"})", "A\uFFFD[2J (model_type x)"},
       }) {
    CAPTURE(text);
    CHECK_ERROR(parse_params(text, "config.json"), ErrorKind::malformed,
                "config.json: the architecture " + std::string(found) + " is not supported; " + supported);
  }
  CHECK(parse_params(changed("architectures", R"(["MixtralForCausalLM"])"), "p") == mixtral());
  // Another family's parameters are none of Mistral's.
  CHECK_ERROR(
      parse_params(R"({"model_type": "qwen3_moe"})", "p"), ErrorKind::malformed,
      "p: key 'model_type': has the value \"qwen3_moe\", which is not supported, expected \"mixtral\" "
      "or \"mistral\"");
}

TEST_CASE("config.json as transformers 4 and 5 write it") {
  const char* config =
      R"({"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mixtral",
    "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "num_local_experts": 8, "output_router_logits": false, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02, "sliding_window": null, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": 32000})";
  CHECK(parse_params(config, "p") == mixtral());
  const std::string five =
      changed("rope_parameters", R"({"rope_theta": 1000000.0, "rope_type": "default"})",
              changed("rope_theta", "",
                      changed("head_dim", "null", changed("pad_token_id", "null", config).c_str()).c_str())
                  .c_str());
  CHECK(parse_params(five, "p") == mixtral());
  const auto rope = [&](const char* value) { return changed("rope_parameters", value, config); };
  CHECK(parse_params(rope(R"({"rope_theta": 1e6})"), "p") == mixtral());
  CHECK_ERROR(parse_params(rope(R"({"rope_theta": 1e4})"), "p"), ErrorKind::malformed,
              "key 'rope_parameters': says another 'rope_theta'");
  CHECK_ERROR(parse_params(rope(R"({"rope_theta": 1e6, "rope_type": "yarn"})"), "p"), ErrorKind::malformed,
              "'rope_type' \"yarn\" is not supported");
  CHECK_ERROR(parse_params(rope(R"({"rope_theta": 1e6, "factor": 4})"), "p"), ErrorKind::malformed,
              "key 'rope_parameters': unknown key 'factor'");
  CHECK_ERROR(parse_params(rope("{}"), "p"), ErrorKind::malformed, "key 'rope_theta' is missing");
}

TEST_CASE("what parameters say of FP8 is accepted, of other quantizations refused by its key") {
  struct Case {
    const char* key;
    const char* value;
    const char* cause;  // nullptr: accepted
  };
  for (const auto& [key, value, cause] : {
           Case{"quantization", R"({"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"})", nullptr},
           Case{"quantization", "null", nullptr},
           Case{"quantization", R"({"qformat_weight": "nvfp4"})",
                "has the value \"nvfp4\", which is not supported"},
           Case{"quantization", R"({"qscheme_act": "TENSOR"})", "key 'qformat_weight' is missing"},
           Case{"quantization", R"({"qformat_weight": "fp8_e4m3", "rotation": 1})", "unknown key 'rotation'"},
           Case{"quantization_config", R"({"quant_method": "fp8", "activation_scheme": "static"})", nullptr},
           Case{"quantization_config",
                R"({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]})", nullptr},
           Case{"quantization_config", R"({"quant_method": "fp8", "weight_block_size": null})", nullptr},
           Case{"quantization_config", R"({"quant_method": "fp8", "weight_block_size": [64, 64]})",
                "key 'quantization_config': key 'weight_block_size': has the value [64,64]"},
           Case{"quantization_config", R"({"quant_method": "fp8", "fmt": "e5m2"})", "has the value \"e5m2\""},
           Case{"quantization_config", R"({"quant_method": "awq", "bits": 4})", "has the value \"awq\""},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                   "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel",
                   "symmetric": true}}}})",
                nullptr},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "float-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float"}}}})",
                "key 'num_bits': has the value 4"},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group",
                   "group_size": 32, "symmetric": true, "actorder": null}}}})",
                nullptr},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "channel"}}}})",
                nullptr},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}})",
                "key 'num_bits': has the value 8, which is not supported, expected 4"},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"type": "int"}}}})",
                "key 'num_bits' is missing"},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float"}}}})",
                "key 'type': has the value \"float\", which is not supported, expected \"int\""},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "symmetric": false}}}})",
                "key 'symmetric': has the value false"},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 16}}}})",
                "key 'group_size': has the value 16, which is not supported, expected 32"},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "strategy": "tensor_group"}}}})",
                "key 'strategy': has the value \"tensor_group\""},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"weights": {"num_bits": 4, "actorder": "weight"}}}})",
                "key 'actorder': has the value \"weight\""},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "marlin-24", "config_groups": {}})",
                "key 'format': has the value \"marlin-24\", which is not supported, expected "
                "\"float-quantized\" or \"pack-quantized\""},
           Case{"quantization_config",
                R"({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {},
                   "transform_config": {"R1": {}}})",
                "key 'transform_config': has the value {\"R1\":{}}"},
       }) {
    CAPTURE(value);
    const std::string text = changed(key, value);
    if (cause == nullptr) {
      CHECK(parse_params(text, "p") == mixtral());
    } else {
      CHECK_ERROR(parse_params(text, "p"), ErrorKind::malformed, cause);
    }
  }
}

TEST_CASE("each key of params.json that is missing is named") {
  for (const char* key :
       {"dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads", "norm_eps", "vocab_size"}) {
    CHECK_ERROR(parse_params(changed(key, ""), "params.json"), ErrorKind::malformed,
                "params.json: key '" + std::string(key) + "' is missing");
  }
  CHECK_ERROR(parse_params(changed("moe", R"({"num_experts":8})"), "p"), ErrorKind::malformed,
              "p: key 'moe': key 'num_experts_per_tok' is missing");
  for (const char* key : {"num_hidden_layers", "intermediate_size", "rms_norm_eps", "vocab_size"}) {
    CHECK_ERROR(parse_params(changed(key, "", kHubDialect), "p"), ErrorKind::malformed,
                "key '" + std::string(key) + "' is missing");
  }
}

TEST_CASE("values that cannot be are refused with the key") {
  struct Case {
    const char* key;
    const char* value;
    const char* cause;
  };
  for (const auto& [key, value, cause] : {
           Case{"dim", "0", "p: key 'dim': expected a whole number from 1 to 1048576, found 0"},
           Case{"dim", "1048577", "found 1048577"},
           Case{"dim", "-1", "p: key 'dim': expected a whole number"},
           Case{"dim", "\"4096\"", "found the string '4096'"},
           Case{"dim", "4096.5", "found 4096.5"},
           Case{"n_layers", "18446744073709551615", "key 'n_layers': expected a whole number from 1 to 1024"},
           Case{"head_dim", "127", "key 'head_dim': is odd (127)"},
           Case{"head_dim", "65536", "key 'n_heads x head_dim'"},
           Case{"n_kv_heads", "5", "'n_heads' 32 does not divide by 'n_kv_heads' 5"},
           Case{"n_kv_heads", "0", "key 'n_kv_heads'"},
           Case{"vocab_size", "-1", "key 'vocab_size'"},
           Case{"norm_eps", "0", "key 'norm_eps': expected a number from 1e-12 to 1.0, found 0.0"},
           Case{"norm_eps", "\"1e-5\"", "key 'norm_eps': expected a number"},
           Case{"norm_eps", "1e300", "key 'norm_eps': expected a number from 1e-12 to 1.0"},
           Case{"rope_theta", "1e-300", "key 'rope_theta': expected a number from 1.0 to"},
           Case{"rope_theta", "-1", "key 'rope_theta': expected a number from 1.0 to"},
           Case{"sliding_window", "0", "key 'sliding_window'"},
           Case{"sliding_window", "\"wide\"",
                "key 'sliding_window': expected a whole number, found the string"},
           Case{"moe", "[8, 2]", "key 'moe': expected an object, found an array"},
           Case{"moe", R"({"num_experts":8,"num_experts_per_tok":9})", "key 'num_experts_per_tok'"},
           Case{"moe", R"({"num_experts":0,"num_experts_per_tok":0})", "key 'num_experts'"},
           Case{"moe", R"({"num_experts":1025,"num_experts_per_tok":1})", "from 1 to 1024, found 1025"},
       }) {
    CAPTURE(key);
    CHECK_ERROR(parse_params(changed(key, value), "p"), ErrorKind::malformed, cause);
  }
  auto many = parse_params(kMixtral, "p");
  many.n_layers = 1024;
  many.num_experts = 1024;
  CHECK_ERROR(validate(many, "p"), ErrorKind::malformed, "key 'n_layers x num_experts'");
  CHECK_ERROR(parse_params("[]", "p"), ErrorKind::malformed, "p: expected an object, found an array");
  CHECK_ERROR(parse_params("{", "p"), ErrorKind::malformed, "p: is not valid JSON");
  CHECK_ERROR(parse_params(changed("hidden_size", "4097", kHubDialect), "p"), ErrorKind::malformed,
              "'hidden_size' 4097 does not divide by 32 heads");
}

}  // namespace
}  // namespace sluice::format
