// config.json and params.json of the families with latent attention: DeepSeek-V2 and V3, Kimi K2,
// GLM-4.7-Flash, Mistral Small 4.

#include "format/hub/latent_config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "tests/support/check_error.h"
#include "tests/support/family_configs.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::changed_config;
using tests::changed_text;

ModelDescription parse(const std::string& text) { return parse_model_config(text, "c").description; }

const LatentAttention& attention(const ModelDescription& model) {
  return std::get<LatentAttention>(model.layer(0).mixer);
}

Router router(const std::string& text) { return parse(text).layer(5).feed_forward.mixture->router; }

TEST_CASE("the scale of scores has YaRN's magnitude squared where the file has mscale_all_dim") {
  const auto scale = [](const char* scaling) {
    return attention(parse(changed_config("deepseek_v3", "rope_scaling", scaling))).scale;
  };
  const double plain = 1 / std::sqrt(32.0);
  CHECK(*scale(R"({"type": "yarn", "factor": 40, "mscale": 1, "mscale_all_dim": 1})") ==
        doctest::Approx(plain * 1.873854).epsilon(1e-6));
  CHECK(*scale(R"({"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707})") ==
        doctest::Approx(plain * 1.589626).epsilon(1e-6));
  CHECK(*scale(R"({"type": "yarn", "factor": 32, "mscale": 1, "mscale_all_dim": 1})") ==
        doctest::Approx(plain * 1.813260).epsilon(1e-6));
  CHECK_FALSE(scale(R"({"type": "yarn", "factor": 40, "mscale": 1, "mscale_all_dim": 0})").has_value());
  CHECK_FALSE(scale(R"({"type": "yarn", "factor": 40})").has_value());
  CHECK_FALSE(scale("").has_value());
  const auto yarn = std::get<YarnScaling>(attention(parse(tests::small_config("deepseek_v2"))).rope.scaling);
  CHECK(yarn.cos_sin_factor == 1);
  CHECK(yarn.original_context_tokens == 4096);
  // Both forms, as transformers 5 saves them.
  const std::string both = changed_config(
      "deepseek_v3", "rope_parameters",
      R"({"rope_type": "yarn", "rope_theta": 10000, "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1,
          "mscale_all_dim": 1, "original_max_position_embeddings": 4096})");
  CHECK(attention(parse(both)).scale == attention(parse(tests::small_config("deepseek_v3"))).scale);
  CHECK(parse(changed_text(both, "rope_scaling", "")) == parse(tests::small_config("deepseek_v3")));
  CHECK_ERROR(parse(changed_text(both, "rope_scaling",
                                 R"({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
                                     "mscale": 0.5, "mscale_all_dim": 0.5})")),
              ErrorKind::malformed,
              "c: key 'rope_scaling': says another 'mscale_all_dim' than 'rope_parameters'");
}

TEST_CASE("norms of latents: 1e-6 for DeepSeek, the model's for GLM") {
  for (const char* family : {"deepseek_v2", "deepseek_v3"})
    CHECK(attention(parse(changed_config(family, "rms_norm_eps", "1e-5"))).latent_norm_epsilon == 1e-6);
  CHECK_FALSE(attention(parse(tests::small_config("glm4_moe_lite"))).latent_norm_epsilon.has_value());
  CHECK(parse(changed_config("glm4_moe_lite", "rms_norm_eps", "")).norm.epsilon == 1e-5);
}

TEST_CASE("queries in one step or two, and the rotated part in all spellings") {
  for (const char* family : tests::latent_families()) {
    CAPTURE(std::string(family));
    CHECK_FALSE(attention(parse(changed_config(family, "q_lora_rank", "null"))).query_rank.has_value());
    CHECK(attention(parse(changed_config(family, "q_lora_rank", "24"))).query_rank == 24U);
    CHECK(attention(parse(tests::small_config(family))).rope.rotary_dims == 12);
    CHECK(attention(parse(tests::small_config(family))).rope.style == RopeStyle::interleaved);
    CHECK(attention(parse(changed_config(family, "rope_interleave", "false"))).rope.style ==
          RopeStyle::half_split);
    const auto dims = [&](const char* head_dim, const char* part) {
      const std::string text = changed_config(family, "head_dim", head_dim);
      return attention(parse(changed_text(text, "partial_rotary_factor", part))).rope.rotary_dims;
    };
    CHECK(dims("12", "") == 12);
    CHECK(dims("32", "") == 12);       // the whole head
    CHECK(dims("32", "0.375") == 12);  // and the part of it
    CHECK(dims("", "") == 12);
    CHECK_ERROR(dims("64", ""), ErrorKind::malformed,
                "c: key 'head_dim': is 64, of which 64 rotate, but 'qk_rope_head_dim' is 12");
    CHECK_NOTHROW(static_cast<void>(parse(changed_config(family, "qk_head_dim", "32"))));
  }
}

TEST_CASE("DeepSeek-V2's router: groups by their best expert, either renormalised or scaled") {
  const std::string limited =
      changed_text(changed_config("deepseek_v2", "topk_method", "\"group_limited_greedy\""), "n_group", "4");
  const std::string groups = changed_text(limited, "topk_group", "2");
  CHECK(router(groups).groups == RouterGroups{4, 2, GroupScore::best});
  CHECK_FALSE(router(changed_text(groups, "topk_method", "\"greedy\"")).groups.has_value());
  CHECK_FALSE(router(changed_text(groups, "topk_group", "4")).groups.has_value());
  const std::string scaled = changed_config("deepseek_v2", "routed_scaling_factor", "16.0");
  CHECK(router(scaled).scale == 16);
  CHECK_FALSE(router(scaled).renormalise);
  CHECK(router(changed_text(scaled, "norm_topk_prob", "true")).scale == 1);
  CHECK(router(changed_text(scaled, "norm_topk_prob", "true")).renormalise);
  CHECK(router(scaled).score == RouterScore::softmax);
  CHECK_FALSE(router(scaled).selection_bias);
}

TEST_CASE("DeepSeek-V3's router: sigmoid, a bias for choosing, groups by their two best experts") {
  const Router expected{.score = RouterScore::sigmoid,
                        .renormalise = true,
                        .logit_bias = false,
                        .selection_bias = true,
                        .groups = RouterGroups{4, 2, GroupScore::best_two},
                        .scale = 2.5,
                        .own_input = false};
  CHECK(router(tests::small_config("deepseek_v3")) == expected);
  CHECK(router(changed_text(changed_config("deepseek_v3", "n_group", ""), "topk_group", "")).groups ==
        RouterGroups{8, 4, GroupScore::best_two});
  CHECK_FALSE(router(tests::small_config("glm4_moe_lite")).groups.has_value());
  CHECK(router(changed_config("glm4_moe_lite", "routed_scaling_factor", "")).scale == 1.8);
}

TEST_CASE("dense layers: the first ones, those between, or those that are named") {
  const auto dense = [](const std::string& text) {
    const auto model = parse(text);
    std::string layers;
    for (std::uint64_t layer = 0; layer < model.layer_count(); ++layer)
      layers += model.layer(layer).feed_forward.dense ? 'd' : 'm';
    return layers;
  };
  CHECK(dense(tests::small_config("deepseek_v2")) == "dmmmmm");
  CHECK(dense(changed_config("deepseek_v2", "first_k_dense_replace", "")) == "mmmmmm");
  CHECK(dense(changed_config("deepseek_v3", "first_k_dense_replace", "")) == "dddmmm");
  CHECK(dense(changed_config("deepseek_v2", "moe_layer_freq", "2")) == "ddmdmd");
  CHECK(dense(changed_config("deepseek_v3", "moe_layer_freq", "3")) == "dddmdd");
  CHECK(dense(changed_config("glm4_moe_lite", "mlp_layer_types",
                             R"(["dense", "sparse", "sparse", "dense", "sparse", "sparse"])")) == "dmmdmm");
  CHECK_ERROR(parse(changed_config("glm4_moe_lite", "mlp_layer_types", R"(["dense"])")), ErrorKind::malformed,
              "c: key 'mlp_layer_types': has 1 layers, but 'num_hidden_layers' is 6");
  CHECK_ERROR(parse(changed_config("glm4_moe_lite", "mlp_layer_types", "[1, 2, 3, 4, 5, 6]")),
              ErrorKind::malformed,
              "c: key 'mlp_layer_types': has the value 1, which is not supported, expected dense or sparse");
  const auto shared = [](const char* count) {
    return parse(changed_config("deepseek_v2", "n_shared_experts", count))
        .layer(1)
        .feed_forward.mixture->shared;
  };
  CHECK(shared("2") == SharedExpert{72, false});
  CHECK_FALSE(shared("null").has_value());
}

TEST_CASE("a config.json of latent attention that cannot be read is refused with the key") {
  struct Case {
    const char* family;
    const char* key;
    const char* value;
    const char* cause;
  };
  for (const auto& [family, key, value, cause] : {
           Case{"deepseek_v2", "kv_lora_rank", "", "c: key 'kv_lora_rank' is missing"},
           Case{"deepseek_v2", "qk_nope_head_dim", "", "c: key 'qk_nope_head_dim' is missing"},
           Case{"deepseek_v2", "qk_rope_head_dim", "0",
                "c: key 'qk_rope_head_dim': expected a whole number from 1"},
           Case{"deepseek_v2", "qk_rope_head_dim", "11", "is odd (11), but RoPE turns pairs"},
           Case{"deepseek_v2", "v_head_dim", "\"28\"", "found the string '28'"},
           Case{"deepseek_v2", "q_lora_rank", "0", "c: key 'q_lora_rank': expected a whole number from 1"},
           Case{"deepseek_v2", "num_key_value_heads", "2",
                "c: key 'num_key_value_heads': has the value 2, which is not supported, expected 6"},
           Case{"deepseek_v2", "qk_head_dim", "33",
                "c: key 'qk_head_dim': has the value 33, which is not supported, expected 32"},
           Case{"deepseek_v2", "attention_bias", "true",
                "c: key 'attention_bias': has the value true, which is not supported, expected false"},
           Case{"deepseek_v2", "topk_method", "\"noaux_tc\"",
                "c: key 'topk_method': has the value \"noaux_tc\", which is not supported, expected "
                "\"greedy\""},
           Case{"deepseek_v2", "scoring_func", "\"sigmoid\"",
                "c: key 'scoring_func': has the value \"sigmoid\""},
           Case{"deepseek_v3", "scoring_func", "\"softmax\"",
                "c: key 'scoring_func': has the value \"softmax\""},
           Case{"deepseek_v3", "topk_method", "\"greedy\"", "c: key 'topk_method': has the value \"greedy\""},
           Case{"deepseek_v3", "n_group", "3", "'experts' 16 is not a multiple of 'groups' 3"},
           Case{"deepseek_v3", "topk_group", "5", "c: key 'topk_group': expected a whole number from 1 to 4"},
           Case{"deepseek_v3", "num_experts_per_tok", "9",
                "key 'experts_per_token': expected a whole number from 1 to 8, found 9"},
           Case{"deepseek_v3", "index_topk", "2048",
                "c: key \"index_topk\" with value 2048 is not known, and may change the result"},
           Case{"deepseek_v3", "moe_layer_freq", "0", "c: key 'moe_layer_freq': expected a whole number"},
           Case{"deepseek_v3", "first_k_dense_replace", "7", "c: key 'first_k_dense_replace'"},
           Case{"deepseek_v3", "rope_scaling", R"({"type": "yarn", "factor": 40, "mscale_all_dim": -1})",
                "c: key 'rope_scaling': key 'mscale_all_dim': expected a number from 0"},
           Case{"glm4_moe_lite", "model_type", "\"deepseek_v3\"", "c: names two architectures"},
           Case{"glm4_moe_lite", "intermediate_size", "", "c: key 'intermediate_size' is missing"},
       }) {
    CAPTURE(std::string(family));
    CAPTURE(std::string(key));
    CAPTURE(std::string(value));
    CHECK_ERROR(parse(changed_config(family, key, value)), ErrorKind::malformed, cause);
  }
  for (const char* family : tests::latent_families()) {
    const std::string text = tests::small_config(family);
    for (std::size_t length = 0; length < text.size() - 1; ++length)
      CHECK_ERROR(parse(text.substr(0, length)), ErrorKind::malformed, "c: ");
  }
}

/// The params.json of a small Mistral Small 4 with one member of an object in it changed.
std::string changed_params(const char* object, const char* key, const char* value) {
  const std::string text = tests::small_config("mistral");
  const std::string inner = parse_json(text, "t").at(object, "t").dump();
  return changed_text(text, object, changed_text(inner, key, value));
}

TEST_CASE("Mistral's params.json with latent attention") {
  const ModelDescription model = parse(tests::small_config("mistral"));
  CHECK(model.layer(0).feed_forward.dense->width == 200);
  const Mixture& mixture = *model.layer(1).feed_forward.mixture;
  CHECK(mixture.shared == SharedExpert{72, false});
  CHECK(mixture.router.renormalise);
  CHECK(mixture.router.score == RouterScore::softmax);
  CHECK_FALSE(mixture.router.selection_bias);
  CHECK(attention(model).latent_norm_epsilon == 1e-6);
  CHECK(attention(model).rope.scaling ==
        RopeScaling{YarnScaling{.factor = 128, .original_context_tokens = 8192}});
  CHECK(attention(model).query_temperature == QueryTemperature{0.1, 8192});
  CHECK_FALSE(attention(model).scale.has_value());
  // YaRN's magnitude counts unless the file says otherwise.
  const double magnitude = 0.1 * std::log(128.0) + 1;
  for (const char* scaled : {"true", ""})
    CHECK(*attention(parse(changed_params("yarn", "apply_scale", scaled))).scale ==
          doctest::Approx(magnitude * magnitude / std::sqrt(32.0)));
  CHECK(attention(parse(changed_params("llama_4_scaling", "original_max_position_embeddings", "64")))
            .query_temperature == QueryTemperature{0.1, 64});
  CHECK_FALSE(attention(parse(changed_params("llama_4_scaling", "beta", "0"))).query_temperature);
  CHECK_FALSE(attention(parse(changed_config("mistral", "llama_4_scaling", ""))).query_temperature);
  CHECK(attention(parse(changed_config("mistral", "yarn", "null"))).rope.scaling ==
        RopeScaling{NoRopeScaling{}});
  const std::string groups = changed_params("moe", "num_expert_groups", "2");
  CHECK(parse(groups).layer(1).feed_forward.mixture->router.groups ==
        RouterGroups{2, 1, GroupScore::best_two});
  CHECK(parse(changed_config("mistral", "moe", "")).layer(5).feed_forward.dense->width == 200);
  CHECK(parse(changed_params("moe", "route_every_n", "2")).layer(3).feed_forward.dense.has_value());
  CHECK(parse(changed_config("mistral", "tied_embeddings", "true")).tied_embeddings);
  CHECK(parse_model_config(changed_config("mistral", "note", "1"), "c").skipped_keys ==
        std::vector<std::string>{"note"});
}

TEST_CASE("a params.json of latent attention that cannot be read is refused with the key") {
  struct Case {
    const char* object;
    const char* key;
    const char* value;
    const char* cause;
  };
  for (const auto& [object, key, value, cause] : {
           Case{nullptr, "norm_eps", "", "c: key 'norm_eps' is missing"},
           Case{nullptr, "v_head_dim", "", "c: key 'v_head_dim' is missing"},
           Case{nullptr, "n_kv_heads", "2",
                "c: key 'n_kv_heads': has the value 2, which is not supported, expected 6"},
           Case{nullptr, "hidden_dim", "", "c: key 'hidden_dim' is missing"},
           Case{nullptr, "activation", "\"gelu\"", "c: key 'activation': has the value \"gelu\""},
           Case{nullptr, "quantization", R"({"qformat_weight": "nvfp4"})",
                "c: key 'quantization': key 'qformat_weight': has the value \"nvfp4\""},
           Case{nullptr, "rope_scaling", R"({"type": "yarn"})",
                "c: key \"rope_scaling\" with value {\"type\":\"yarn\"} is not known"},
           Case{nullptr, "yarn", "8", "c: key 'yarn': expected an object"},
           Case{nullptr, "hidden_size", "96",
                "c: key \"hidden_size\" with value 96 is not known, and may change the result"},
           Case{"yarn", "factor", "", "c: key 'yarn': key 'factor' is missing"},
           Case{"yarn", "factor", "0.5", "c: key 'yarn': key 'factor': expected a number from 1"},
           Case{"yarn", "original_max_position_embeddings", "",
                "c: key 'yarn': key 'original_max_position_embeddings' is missing"},
           Case{"yarn", "mscale", "1", "c: key 'yarn': unknown key 'mscale'"},
           Case{"llama_4_scaling", "beta", "", "c: key 'llama_4_scaling': key 'beta' is missing"},
           Case{"llama_4_scaling", "beta", "-1", "c: key 'llama_4_scaling': key 'beta': expected a number"},
           Case{"llama_4_scaling", "floor", "1", "c: key 'llama_4_scaling': unknown key 'floor'"},
           Case{"moe", "num_experts", "", "c: key 'moe': key 'num_experts' is missing"},
           Case{"moe", "expert_hidden_dim", "", "c: key 'moe': key 'expert_hidden_dim' is missing"},
           Case{"moe", "num_experts_per_tok", "13",
                "key 'experts_per_token': expected a whole number from 1 to 12, found 13"},
           Case{"moe", "renorm_strategy", "\"NONE\"",
                "c: key 'moe': key 'renorm_strategy': has the value \"NONE\""},
           Case{"moe", "use_load_balancing_bias", "true",
                "c: key 'moe': key 'use_load_balancing_bias': has the value true"},
           Case{"moe", "num_expert_groups_per_tok", "2",
                "c: key 'moe': key 'num_expert_groups_per_tok': expected a whole number from 1 to 1"},
           Case{"moe", "first_k_dense_replace", "7", "c: key 'moe': key 'first_k_dense_replace'"},
           Case{"moe", "expert_score", "\"sigmoid\"", "c: key 'moe': key \"expert_score\" with value"},
       }) {
    CAPTURE(std::string(key));
    CAPTURE(std::string(value));
    const std::string text =
        object == nullptr ? changed_config("mistral", key, value) : changed_params(object, key, value);
    CHECK_ERROR(parse(text), ErrorKind::malformed, cause);
  }
  const std::string text = tests::small_config("mistral");
  for (std::size_t length = 0; length < text.size() - 1; ++length)
    CHECK_ERROR(parse(text.substr(0, length)), ErrorKind::malformed, "c: ");
}

TEST_CASE("Mistral Small 4 in transformers' layout: temperature beside the rope, no second YaRN factor") {
  // Rotary and whole widths whose quotient is not exact: 12 / 32.
  std::string text = changed_config("deepseek_v3", "model_type", "\"mistral4\"");
  text = changed_text(text, "architectures", R"(["Mistral4ForCausalLM"])");
  for (const char* gone : {"topk_method", "scoring_func", "rope_scaling", "rope_theta"})
    text = changed_text(text, gone, "");
  const char* rope =
      R"({"rope_type": "yarn", "rope_theta": 1e4, "factor": 16, "mscale": 1, "mscale_all_dim": 1,
      "original_max_position_embeddings": 48, "llama_4_scaling_beta": 0.1, "partial_rotary_factor": 0.375,
      "max_position_embeddings": 4096})";
  const ModelDescription model = parse(changed_text(text, "rope_parameters", rope));
  CHECK(attention(model).query_temperature == QueryTemperature{0.1, 48});
  CHECK_FALSE(attention(model).scale.has_value());
  CHECK(attention(model).latent_norm_epsilon == 1e-6);
  CHECK(attention(model).rope.rotary_dims == 12);
  const Router& router = model.layer(5).feed_forward.mixture->router;
  CHECK(router.score == RouterScore::softmax);
  CHECK(router.renormalise);
  CHECK(router.scale == 2.5);
  CHECK(router.groups == RouterGroups{4, 2, GroupScore::best_two});
  // Other families have no such key.
  CHECK_ERROR(parse(changed_text(changed_config("deepseek_v3", "rope_scaling", ""), "rope_parameters", rope)),
              ErrorKind::malformed, "c: key 'rope_parameters': unknown key '");
}

TEST_CASE("Kimi K2.5 has the text part of its configuration in an object of its own") {
  const std::string text = changed_config("deepseek_v3", "model_type", "\"kimi_k2\"");
  const std::string whole =
      R"({"architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25",
      "ignore_index": -100, "media_placeholder_token_id": 163605, "pad_token_id": 163839,
      "use_unified_vision_chunk": true, "video_placeholder": "<|v|>", "vision_config": {"mm_hidden_size": 1152},
      "text_config": )" +
      changed_text(text, "temperature", "1.0") + "}";
  CHECK(parse(whole) == parse(text));
  CHECK_ERROR(parse(changed_text(whole, "text_config", changed_text(text, "kv_lora_rank", ""))),
              ErrorKind::malformed, "c: key 'text_config': key 'kv_lora_rank' is missing");
}

TEST_CASE("a Kimi K2 may call itself by either of its classes") {
  const std::string kimi = changed_config("deepseek_v3", "model_type", "\"kimi_k2\"");
  CHECK(parse(kimi) == parse(tests::small_config("deepseek_v3")));
  CHECK(parse(changed_text(kimi, "architectures", R"(["KimiK2ForCausalLM"])")) == parse(kimi));
}

}  // namespace
}  // namespace sluice::format
