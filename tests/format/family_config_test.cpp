// config.json of the families of transformers. Each text has the keys of a published file; what follows from
// it is compared with the description that is written by hand in tests/support/families.cpp, and with the
// published number of weights.

#include "format/hub/family_config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <string_view>

#include "format/model_tensors.h"
#include "tests/support/check_error.h"
#include "tests/support/families.h"
#include "tests/support/family_configs.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::changed_config;

double billion_weights(const ModelDescription& description) {
  double weights = 0;
  for (const ModelTensor& tensor : model_tensors(description))
    weights += static_cast<double>(element_count(tensor.shape).value());
  return weights / 1e9;
}

const ModelDescription* described_by_hand(std::string_view model) {
  static const auto families = tests::families();
  for (const auto& family : families)
    if (family.model == model) return &family.description;
  return nullptr;
}

ModelDescription parse(const std::string& text) { return parse_model_config(text, "c").description; }

const GroupedQueryAttention& attention(const ModelDescription& model, std::uint64_t layer = 0) {
  return std::get<GroupedQueryAttention>(model.layer(layer).mixer);
}

TEST_CASE("config.json of published models: their description, and their number of weights") {
  for (const auto& [model, published, by_hand, text] : tests::published_configs()) {
    CAPTURE(model);
    const ModelConfig config = parse_model_config(text, "config.json");
    // Published totals are rounded to two decimals.
    CHECK(std::fabs(billion_weights(config.description) - published) < 0.0051);
    CHECK(config.skipped_keys.empty());
    if (!by_hand) continue;
    const ModelDescription* expected = described_by_hand(model);
    REQUIRE(expected != nullptr);
    CHECK(config.description == *expected);
  }
}

TEST_CASE("a missing norm_topk_prob means what the family's class in transformers means") {
  const auto renormalises = [](const char* family) {
    const auto model = parse(changed_config(family, "norm_topk_prob", ""));
    return model.layer(model.layer_count() - 1).feed_forward.mixture->router.renormalise;
  };
  CHECK_FALSE(renormalises("qwen3_moe"));
  CHECK_FALSE(renormalises("qwen2_moe"));
  CHECK_FALSE(renormalises("olmoe"));
  CHECK(renormalises("glm4_moe"));
  CHECK(parse(changed_config("qwen2_moe", "norm_topk_prob", "true"))
            .layer(0)
            .feed_forward.mixture->router.renormalise);
  CHECK_FALSE(parse(changed_config("glm4_moe", "norm_topk_prob", "false"))
                  .layer(1)
                  .feed_forward.mixture->router.renormalise);
}

TEST_CASE("Qwen's dense layers: those that are named, and those that the step leaves out") {
  const auto is_dense = [](const ModelDescription& model) {
    std::string text;
    for (std::uint64_t layer = 0; layer < model.layer_count(); ++layer)
      text += model.layer(layer).feed_forward.dense ? 'd' : 'm';
    return text;
  };
  for (const char* family : {"qwen3_moe", "qwen2_moe"}) {
    CAPTURE(std::string(family));
    CHECK(is_dense(parse(changed_config(family, "mlp_only_layers", "[0, 3]"))) == "dmmdmm");
    CHECK(is_dense(parse(changed_config(family, "decoder_sparse_step", "2"))) == "dmdmdm");
    CHECK(is_dense(parse(changed_config(family, "decoder_sparse_step", "3"))) == "ddmddm");
    CHECK(parse(changed_config(family, "mlp_only_layers", "[0]")).layer(0).feed_forward.dense->width == 300);
  }
}

TEST_CASE("Qwen's windows: all layers of Qwen3, every other of Qwen2's first ones, or those of layer_types") {
  const auto windows = [](const ModelDescription& model) {
    std::string text;
    for (std::uint64_t layer = 0; layer < model.layer_count(); ++layer)
      text += attention(model, layer).window_tokens == 64U ? 'w' : '-';
    return text;
  };
  const auto with_window = [](const char* family, const char* key, const char* value) {
    std::string text = changed_config(family, "use_sliding_window", "true");
    text = tests::changed_text(text, "sliding_window", "64");
    return tests::changed_text(text, key, value);
  };
  CHECK(windows(parse(with_window("qwen3_moe", "max_window_layers", "3"))) == "wwwwww");
  CHECK(windows(parse(with_window("qwen2_moe", "max_window_layers", "4"))) == "w-w---");
  CHECK(windows(parse(changed_config("qwen2_moe", "sliding_window", "64"))) == "------");
  const char* types =
      R"(["full_attention","sliding_attention","full_attention","full_attention","full_attention","full_attention"])";
  CHECK(windows(parse(with_window("qwen2_moe", "layer_types", types))) == "-w----");
  CHECK_ERROR(parse(changed_config("qwen2_moe", "layer_types", types)), ErrorKind::malformed,
              "c: key 'layer_types': has the value \"sliding_attention\", which is not supported, expected "
              "full_attention, because 'use_sliding_window' is false");
  CHECK_ERROR(parse(changed_config("qwen3_moe", "use_sliding_window", "true")), ErrorKind::malformed,
              "c: key 'sliding_window': is missing, but 'use_sliding_window' is true");
}

TEST_CASE("biases: which matrices have them depends on the family") {
  for (const char* family : {"qwen3_moe", "olmoe", "granitemoe"}) {
    CAPTURE(std::string(family));
    CHECK_FALSE(attention(parse(changed_config(family, "attention_bias", ""))).input_biases);
    const auto model = parse(changed_config(family, "attention_bias", "true"));
    CHECK(attention(model).input_biases);
    CHECK(attention(model).output_bias);
  }
  CHECK(attention(parse(changed_config("glm4_moe", "attention_bias", "true"))).input_biases);
  CHECK_FALSE(attention(parse(changed_config("glm4_moe", "attention_bias", "true"))).output_bias);
  CHECK(attention(parse(changed_config("qwen2_moe", "qkv_bias", ""))).input_biases);
  CHECK_FALSE(attention(parse(changed_config("qwen2_moe", "qkv_bias", "false"))).input_biases);
}

TEST_CASE("GLM: groups, shared experts, dense layers, and the layers that predict further tokens") {
  const auto mixture = [](const ModelDescription& model) { return *model.layer(1).feed_forward.mixture; };
  CHECK(mixture(parse(changed_config("glm4_moe", "n_shared_experts", "2"))).shared ==
        SharedExpert{80, false});
  CHECK_FALSE(mixture(parse(changed_config("glm4_moe", "n_shared_experts", "0"))).shared.has_value());
  CHECK(mixture(parse(changed_config("glm4_moe", "routed_scaling_factor", "2.5"))).router.scale == 2.5);
  const std::string groups =
      tests::changed_text(changed_config("glm4_moe", "n_group", "4"), "topk_group", "2");
  CHECK(mixture(parse(groups)).router.groups == RouterGroups{4, 2, GroupScore::best_two});
  CHECK_FALSE(mixture(parse(tests::changed_text(groups, "topk_group", "4"))).router.groups.has_value());
  CHECK(attention(parse(changed_config("glm4_moe", "use_qk_norm", "true"))).query_key_norm ==
        QueryKeyNorm::per_head);
  CHECK(parse(changed_config("glm4_moe", "first_k_dense_replace", "0")).layer_kinds.size() == 1);
  CHECK(parse(changed_config("glm4_moe", "first_k_dense_replace", "6")).layer(5).feed_forward.dense);
  CHECK(parse_model_config(tests::small_config("glm4_moe"), "c").prediction_layers == 1);
  CHECK(parse_model_config(tests::small_config("minimax_m2"), "c").prediction_layers == 3);
  CHECK(parse_model_config(tests::small_config("qwen3_moe"), "c").prediction_layers == 0);
}

TEST_CASE("Granite: logits are divided, and its sister has a shared expert without a gate") {
  const auto model = parse(changed_config("granitemoe", "logits_scaling", "8"));
  CHECK(model.logits_scale == 0.125);
  CHECK(model.embedding_scale == 12);
  CHECK(attention(model).scale == 0.015625);
  std::string shared = changed_config("granitemoe", "model_type", "\"granitemoeshared\"");
  shared = tests::changed_text(shared, "architectures", R"(["GraniteMoeSharedForCausalLM"])");
  CHECK_FALSE(parse(shared).layer(0).feed_forward.mixture->shared.has_value());
  shared = tests::changed_text(shared, "shared_intermediate_size", "72");
  CHECK(parse(shared).layer(0).feed_forward.mixture->shared == SharedExpert{72, false});
}

TEST_CASE(
    "gpt-oss: windows by turns, YaRN, biases, clamped SwiGLU, and both names of the experts per token") {
  const auto windows = [](const ModelDescription& model) {
    std::string text;
    for (std::uint64_t layer = 0; layer < model.layer_count(); ++layer)
      text += attention(model, layer).window_tokens == 24U ? 'w' : '-';
    return text;
  };
  const auto model = parse(tests::small_config("gpt_oss"));
  CHECK(windows(model) == "w-w-w-");
  CHECK(windows(parse(changed_config(
            "gpt_oss", "layer_types",
            R"(["full_attention","full_attention","sliding_attention","sliding_attention","full_attention",
                "sliding_attention"])"))) == "--ww-w");
  CHECK(attention(parse(changed_config("gpt_oss", "sliding_window", ""))).window_tokens == 128U);
  CHECK(attention(model).sinks);
  CHECK(attention(model).input_biases);
  CHECK(attention(model).output_bias);
  CHECK_FALSE(attention(parse(changed_config("gpt_oss", "attention_bias", "false"))).output_bias);
  CHECK(model.activation == Activation(ClampedSwiglu{1.702, 7}));
  CHECK(parse(changed_config("gpt_oss", "swiglu_limit", "5.5")).activation ==
        Activation(ClampedSwiglu{1.702, 5.5}));
  const Mixture& mixture = *model.layer(1).feed_forward.mixture;
  CHECK(mixture.expert_biases);
  CHECK(mixture.router.logit_bias);
  CHECK(mixture.router.renormalise);
  for (const char* key : {"num_experts_per_tok", "experts_per_token"})
    CHECK(parse(changed_config("gpt_oss", key, "")).layer(0).feed_forward.mixture->experts_per_token == 4);
  // The family's class in transformers has YaRN where a file names no scaling.
  CHECK(parse(changed_config("gpt_oss", "rope_scaling", "")) == model);
  CHECK_FALSE(std::get<YarnScaling>(attention(model).rope->scaling).round_ramp);
  struct Case {
    const char* key;
    const char* value;
    const char* cause;
  };
  for (const auto& [key, value, cause] : {
           Case{"experts_per_token", "3",
                "c: key 'experts_per_token': is 3, but another spelling of the key is 4"},
           Case{"initial_context_length", "8192",
                "c: key 'initial_context_length': is 8192, but the RoPE scaling begins at 4096"},
           Case{"swiglu_limit", "-7", "c: key 'swiglu_limit': expected a number from"},
           Case{"layer_types", R"(["chunked_attention"])",
                "c: key 'layer_types': has 1 layers, but 'num_hidden_layers' is 6"},
           Case{"layer_types",
                R"(["chunked_attention","full_attention","full_attention","full_attention","full_attention",
                    "full_attention"])",
                "has the value \"chunked_attention\", which is not supported, expected full_attention or "
                "sliding_attention"},
           Case{"quantization_config", R"({"quant_method": "mxfp4", "bits": 4})",
                "c: key 'quantization_config': unknown key 'bits'"},
           Case{"quantization_config", R"({"quant_method": "gptq"})",
                "expected \"fp8\", \"mxfp4\" or \"compressed-tensors\""},
       }) {
    CAPTURE(std::string(value));
    CHECK_ERROR(parse(changed_config("gpt_oss", key, value)), ErrorKind::malformed, cause);
  }
}

TEST_CASE("the part of the head that rotates, in all spellings") {
  const auto dims = [](const std::string& text) { return attention(parse(text)).rope->rotary_dims; };
  CHECK(dims(tests::small_config("glm4_moe")) == 12);  // of 24
  CHECK(dims(changed_config("glm4_moe", "partial_rotary_factor", "")) == 12);
  CHECK(dims(changed_config("glm4_moe", "partial_rotary_factor", "0.25")) == 6);
  const char* parameters = R"({"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25})";
  CHECK(dims(tests::changed_text(changed_config("glm4_moe", "partial_rotary_factor", ""), "rope_parameters",
                                 parameters)) == 6);
  CHECK_ERROR(parse(changed_config("glm4_moe", "rope_parameters", parameters)), ErrorKind::malformed,
              "c: key 'rope_parameters': says another 'partial_rotary_factor' than the key of that name");
  CHECK(dims(tests::small_config("minimax_m2")) == 16);  // of 32
  CHECK(dims(tests::changed_text(changed_config("minimax_m2", "rotary_dim", ""), "partial_rotary_factor",
                                 "0.25")) == 8);
  CHECK(dims(changed_config("minimax_m2", "rotary_dim", "")) == 32);
  CHECK_ERROR(parse(changed_config("minimax_m2", "partial_rotary_factor", "0.25")), ErrorKind::malformed,
              "c: key 'rotary_dim': is 16, but 'partial_rotary_factor' makes it 8 of 32");
  CHECK_ERROR(parse(changed_config("minimax_m2", "rotary_dim", "64")), ErrorKind::malformed,
              "c: key 'rotary_dim': expected a whole number from 1 to 32, found 64");
}

TEST_CASE("RoPE scaling in both forms") {
  const auto rope = [](const char* key, const std::string& value) {
    return *attention(parse(changed_config("qwen3_moe", key, value))).rope;
  };
  const auto in_both_forms = [&](const std::string& members, const RopeScaling& expected) {
    CAPTURE(members);
    CHECK(rope("rope_scaling", "{\"rope_type\": " + members + "}").scaling == expected);
    CHECK(rope("rope_scaling", "{\"type\": " + members + "}").scaling == expected);
    CHECK(rope("rope_parameters", "{\"rope_theta\": 1e6, \"rope_type\": " + members + "}").scaling ==
          expected);
  };
  in_both_forms(R"("default")", NoRopeScaling{});
  in_both_forms(R"("linear", "factor": 1)", NoRopeScaling{});
  in_both_forms(R"("dynamic", "factor": 1.0)", NoRopeScaling{});
  in_both_forms(R"("linear", "factor": 4)", LinearScaling{4});
  in_both_forms(R"("llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                   "original_max_position_embeddings": 8192)",
                Llama3Scaling{8, 8192, 1, 4});
  YarnScaling yarn;
  yarn.factor = 4;
  yarn.original_context_tokens = 32768;
  yarn.cos_sin_factor = 0.1 * std::log(4.0) + 1;
  in_both_forms(R"("yarn", "factor": 4.0, "original_max_position_embeddings": 32768)", yarn);
  yarn.original_context_tokens = 40960;
  in_both_forms(R"("yarn", "factor": 4.0)", yarn);  // max_position_embeddings
  yarn.beta_fast = 16;
  yarn.beta_slow = 2;
  yarn.round_ramp = false;
  yarn.cos_sin_factor = 1.5;
  in_both_forms(R"("yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 2, "truncate": false,
                   "attention_factor": 1.5, "mscale": 0.7, "mscale_all_dim": 0.5)",
                yarn);
  const auto factor = [&](const char* members) {
    const Rope found =
        rope("rope_scaling", "{\"type\": \"yarn\", \"factor\": 40" + std::string(members) + "}");
    return std::get<YarnScaling>(found.scaling).cos_sin_factor;
  };
  // DeepSeek-V2-Lite and V3 give the same value twice.
  CHECK(factor(R"(, "mscale": 0.707, "mscale_all_dim": 0.707)") == 1);
  CHECK(factor(R"(, "mscale": 1.0, "mscale_all_dim": 0.0)") == doctest::Approx(1.368888));
  CHECK(factor(R"(, "mscale": 1.0, "mscale_all_dim": 0.5)") == doctest::Approx(1.368888 / 1.184444));
  CHECK(rope("rope_theta", "").base == 1e4);
  CHECK(rope("rope_parameters", R"({"rope_theta": 1e6})").base == 1e6);
}

TEST_CASE("what a RoPE scaling cannot say is refused by its key") {
  struct Case {
    const char* key;
    const char* value;
    const char* cause;
  };
  for (const auto& [key, value, cause] : {
           Case{"rope_scaling", R"({"rope_type": "longrope", "factor": 4})",
                "c: key 'rope_scaling': key 'rope_type': has the value \"longrope\", which is not supported, "
                "expected default, linear, llama3, proportional or yarn"},
           Case{"rope_scaling", R"({"type": "dynamic", "factor": 2})",
                "c: key 'rope_scaling': key 'rope_type': has the value \"dynamic\""},
           Case{"rope_scaling", R"({"type": "linear", "rope_type": "yarn"})",
                "c: key 'rope_scaling': key 'type': is \"linear\", but 'rope_type' is \"yarn\""},
           Case{"rope_scaling", R"({"type": 3})",
                "c: key 'rope_scaling': key 'rope_type': expected a string"},
           Case{"rope_scaling", R"({"type": "linear"})", "c: key 'rope_scaling': key 'factor' is missing"},
           Case{"rope_scaling", R"({"type": "linear", "factor": 0})", "key 'factor': expected a number from"},
           Case{"rope_scaling", R"({"type": "yarn", "factor": 0.5})",
                "key 'factor': expected a number from 1"},
           Case{"rope_scaling", R"({"type": "yarn", "factor": 4, "extrapolation": 1})",
                "c: key 'rope_scaling': unknown key 'extrapolation'"},
           Case{"rope_scaling", R"({"type": "llama3", "factor": 8, "low_freq_factor": 1,
                "original_max_position_embeddings": 8192})",
                "c: key 'rope_scaling': key 'high_freq_factor' is missing"},
           Case{"rope_scaling",
                R"({"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                "original_max_position_embeddings": 8192})",
                "key 'scaling': 'high_frequency_factor' is not greater than 'low_frequency_factor'"},
           Case{"rope_scaling", R"({"mrope_section": [11, 11, 10]})", "unknown key 'mrope_section'"},
           Case{"rope_scaling", "[4]", "c: key 'rope_scaling': expected an object, found an array"},
           Case{"rope_parameters", R"({"rope_theta": 1e4})",
                "c: key 'rope_parameters': says another 'rope_theta' than the key of that name"},
           Case{"rope_parameters", R"({"full_attention": {"rope_theta": 1e6}})",
                "c: key 'rope_parameters': unknown key 'full_attention'"},
           Case{"partial_rotary_factor", "1.5", "c: key 'partial_rotary_factor': expected a number from"},
           Case{"partial_rotary_factor", "0.01", "key 'rotary_dims': expected a whole number from 1"},
           Case{"partial_rotary_factor", "0.25", "key 'rotary_dims': is odd (5), but RoPE turns pairs"},
       }) {
    CAPTURE(std::string(value));
    CHECK_ERROR(parse(changed_config("qwen3_moe", key, value)), ErrorKind::malformed, cause);
  }
  const std::string both = changed_config("qwen3_moe", "rope_parameters",
                                          R"({"rope_theta": 1e6, "rope_type": "linear", "factor": 4})");
  CHECK_ERROR(parse(tests::changed_text(both, "rope_scaling", R"({"type": "linear", "factor": 2})")),
              ErrorKind::malformed, "c: key 'rope_scaling': says another scaling than 'rope_parameters'");
}

TEST_CASE("a config.json that cannot be read is refused with the key") {
  struct Case {
    const char* family;
    const char* key;
    const char* value;
    const char* cause;
  };
  for (
      const auto& [family, key, value, cause] : {
          Case{"qwen3_moe", "hidden_size", "", "c: key 'hidden_size' is missing"},
          Case{"qwen3_moe", "hidden_size", "0", "c: key 'hidden_size': expected a whole number from 1"},
          Case{"qwen3_moe", "hidden_size", "\"96\"", "found the string '96'"},
          Case{"qwen3_moe", "num_hidden_layers", "18446744073709551615",
               "c: key 'num_hidden_layers': expected a whole number from 1 to 1024"},
          Case{"qwen3_moe", "num_attention_heads", "0", "c: key 'num_attention_heads'"},
          Case{"qwen3_moe", "num_key_value_heads", "5", "'heads' 6 is not a multiple of 'key_heads' 5"},
          Case{"qwen3_moe", "num_experts", "", "c: key 'num_experts' is missing"},
          Case{"qwen3_moe", "num_experts", "4096",
               "c: key 'num_experts': expected a whole number from 1 to 1024"},
          Case{"qwen3_moe", "num_local_experts", "3",
               "c: key 'num_local_experts': is 3, but another spelling of the key is 12"},
          Case{"qwen3_moe", "num_experts_per_tok", "13", "key 'experts_per_token'"},
          Case{"qwen3_moe", "norm_topk_prob", "1", "c: key 'norm_topk_prob': expected true or false"},
          Case{"qwen3_moe", "mlp_only_layers", "[6]",
               "c: key 'mlp_only_layers': has 6, expected numbers below 6"},
          Case{"qwen3_moe", "mlp_only_layers", "[0,0,0,0,0,0,0]",
               "c: key 'mlp_only_layers': has 7 numbers, expected at most 6"},
          Case{"qwen3_moe", "decoder_sparse_step", "0",
               "c: key 'decoder_sparse_step': expected a whole number"},
          Case{"qwen3_moe", "hidden_act", "\"gelu\"",
               "c: key 'hidden_act': has the value \"gelu\", which is not supported, expected \"silu\""},
          Case{"qwen3_moe", "kv_lora_rank", "512",
               "c: key \"kv_lora_rank\" with value 512 is not known, and may change the result"},
          Case{"qwen3_moe", "layer_types", R"(["full_attention"])",
               "c: key 'layer_types': has 1 layers, but 'num_hidden_layers' is 6"},
          Case{"qwen3_moe", "head_dim", "19", "is odd (19), but RoPE turns pairs"},
          Case{"qwen3_moe", "model_type", "\"glm4_moe\"",
               "c: names two architectures, Qwen3MoeForCausalLM in 'architectures' and glm4_moe in "
               "'model_type'"},
          Case{"qwen3_moe", "model_type", "\"mistral\"", "c: names two architectures"},
          Case{"qwen3_moe", "quantization_config", R"({"quant_method": "gptq"})",
               "c: key 'quantization_config': key 'quant_method': has the value \"gptq\""},
          Case{"qwen3_moe", "quantization_config",
               R"({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [64, 128]})",
               "key 'weight_block_size': has the value [64,128], which is not supported, expected [128,128]"},
          Case{"qwen2_moe", "shared_expert_intermediate_size", "",
               "c: key 'shared_expert_intermediate_size' is missing"},
          Case{"olmoe", "clip_qkv", "-8", "c: key 'clip_qkv': expected a number from"},
          Case{"olmoe", "head_dim", "", nullptr},
          Case{"olmoe", "hidden_size", "97",
               "c: has no 'head_dim', and 'hidden_size' 97 does not divide by 6 heads"},
          Case{"granitemoe", "logits_scaling", "0", "c: key 'logits_scaling': expected a number from"},
          Case{"granitemoe", "position_embedding_type", "\"nope\"",
               "c: key 'position_embedding_type': has the value \"nope\", which is not supported, expected "
               "\"rope\""},
          Case{"glm4_moe", "topk_group", "2", "c: key 'topk_group': expected a whole number from 1 to 1"},
          Case{"glm4_moe", "topk_method", "\"greedy\"", "c: key 'topk_method': has the value \"greedy\""},
          Case{"glm4_moe", "first_k_dense_replace", "7",
               "c: key 'first_k_dense_replace': expected a whole number from 1 to 6, found 7"},
          Case{"glm4_moe", "intermediate_size", "", "c: key 'intermediate_size' is missing"},
          Case{
              "minimax_m2", "attn_type_list", "[1, 0, 1, 1, 1, 1]",
              "c: key 'attn_type_list': has the value 0, which is not supported, expected 1 for every layer"},
          Case{"minimax_m2", "scoring_func", "\"softmax\"",
               "c: key 'scoring_func': has the value \"softmax\""},
          Case{"minimax_m2", "qk_norm_type", "\"per_head\"",
               "c: key 'qk_norm_type': has the value \"per_head\""},
          Case{"minimax_m2", "shared_intermediate_size", "512", "c: key 'shared_intermediate_size'"},
          Case{"minimax_m2", "layernorm_mlp_alpha", "3.55", "c: key \"layernorm_mlp_alpha\" with value 3.55"},
      }) {
    CAPTURE(std::string(family));
    CAPTURE(std::string(key));
    CAPTURE(std::string(value));
    const std::string text = changed_config(family, key, value);
    if (cause == nullptr) {
      CHECK_NOTHROW(static_cast<void>(parse(text)));
    } else {
      CHECK_ERROR(parse(text), ErrorKind::malformed, cause);
    }
  }
}

TEST_CASE("a config.json that is cut anywhere is not valid JSON, or is refused by a key") {
  for (const char* family : tests::small_families()) {
    const std::string text = tests::small_config(family);
    for (std::size_t length = 0; length < text.size() - 1; ++length)
      CHECK_ERROR(parse(text.substr(0, length)), ErrorKind::malformed, "c: ");
  }
}

TEST_CASE("keys of programs and of training are skipped, unknown ones told") {
  const auto config = parse_model_config(
      tests::changed_text(changed_config("olmoe", "my_note", "1"), "router_z_loss_coef", "0.001"), "c");
  CHECK(config.skipped_keys == std::vector<std::string>{"my_note"});
}

TEST_CASE("Mistral's dialects are read through the same door") {
  const auto config = parse_model_config(
      R"({"dim": 64, "n_layers": 2, "head_dim": 16, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2,
          "norm_eps": 1e-5, "vocab_size": 300, "moe": {"num_experts": 4, "num_experts_per_tok": 2}, "note": 1})",
      "p");
  CHECK(attention(config.description).rope->style == RopeStyle::interleaved);
  CHECK(config.skipped_keys == std::vector<std::string>{"note"});
}

}  // namespace
}  // namespace sluice::format
