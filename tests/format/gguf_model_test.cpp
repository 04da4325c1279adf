// Tests what the keys of GGUF files say about models of today's mixtures, and which keys are refused.

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_writer.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::TempDir;
using Value = std::variant<std::uint32_t, float, bool, std::string, std::vector<std::int32_t>>;
using Keys = std::map<std::string, Value>;

/// A small model; keys are without the name of the architecture.
Keys small_model() {
  return {{"context_length", 4096U},
          {"embedding_length", 64U},
          {"block_count", 3U},
          {"feed_forward_length", 96U},
          {"attention.head_count", 4U},
          {"attention.head_count_kv", 2U},
          {"attention.key_length", 16U},
          {"attention.value_length", 16U},
          {"attention.layer_norm_rms_epsilon", 1e-6F},
          {"rope.freq_base", 1e6F},
          {"expert_count", 8U},
          {"expert_used_count", 2U},
          {"vocab_size", 6U}};
}

CheckpointIndex write(const TempDir& folder, const std::string& architecture, const Keys& keys) {
  GgufHeader header;
  header.set_string("general.architecture", architecture);
  for (const auto& [rest, value] : keys) {
    const std::string key = architecture + "." + rest;
    if (const auto* number = std::get_if<std::uint32_t>(&value)) header.set_u32(key, *number);
    if (const auto* number = std::get_if<float>(&value)) header.set_f32(key, *number);
    if (const auto* truth = std::get_if<bool>(&value)) header.set_bool(key, *truth);
    if (const auto* text = std::get_if<std::string>(&value)) header.set_string(key, *text);
    if (const auto* list = std::get_if<std::vector<std::int32_t>>(&value)) header.set_i32s(key, *list);
  }
  base::write_file(folder / "m.gguf", base::as_bytes(header.encode()));
  return open_gguf(folder / "m.gguf");
}

ModelConfig read(const std::string& architecture, const Keys& changes) {
  const TempDir folder(tests::fast_directory());
  Keys keys = small_model();
  for (const auto& [key, value] : changes) keys[key] = value;
  return gguf_config(write(folder, architecture, keys));
}

const GroupedQueryAttention& attention(const ModelDescription& model) {
  return std::get<GroupedQueryAttention>(model.layer(0).mixer);
}

Mixture last_mixture(const ModelConfig& config) {
  return *config.description.layer(config.description.layer_count() - 1).feed_forward.mixture;
}

TEST_CASE("an expert's width: a key of its own, or what llama.cpp makes of the other") {
  CHECK(last_mixture(read("qwen3moe", {})).width == 48);  // 96 / 2
  CHECK(last_mixture(read("qwen3moe", {{"expert_feed_forward_length", 32U}})).width == 32);
  CHECK(last_mixture(read("olmoe", {})).width == 96);
  CHECK(last_mixture(read("granitemoe", {})).width == 96);
}

TEST_CASE("shared experts, dense layers, groups and layers of multi-token prediction") {
  CHECK(last_mixture(read("qwen2moe", {})).shared == SharedExpert{96, true});
  CHECK(last_mixture(read("qwen2moe", {{"expert_shared_feed_forward_length", 80U}})).shared ==
        SharedExpert{80, true});
  CHECK(last_mixture(read("granitemoe", {{"expert_shared_feed_forward_length", 80U}})).shared ==
        SharedExpert{80, false});
  const ModelConfig glm = read("glm4moe", {{"expert_feed_forward_length", 32U},
                                           {"expert_shared_count", 2U},
                                           {"leading_dense_block_count", 1U},
                                           {"nextn_predict_layers", 1U},
                                           {"expert_weights_scale", 2.5F},
                                           {"expert_weights_norm", true},
                                           {"expert_group_count", 4U},
                                           {"expert_group_used_count", 2U},
                                           {"rope.dimension_count", 8U}});
  CHECK(glm.prediction_layers == 1);
  CHECK(glm.description.layer_count() == 2);
  CHECK(glm.description.layer(0).feed_forward.dense->width == 96);
  CHECK(attention(glm.description).rope->rotary_dims == 8);
  const Mixture mixture = last_mixture(glm);
  CHECK(mixture.shared == SharedExpert{64, false});
  CHECK(mixture.router.score == RouterScore::sigmoid);
  CHECK(mixture.router.renormalise);
  CHECK(mixture.router.scale == 2.5);
  CHECK(mixture.router.groups == RouterGroups{4, 2, GroupScore::best_two});
  CHECK_FALSE(last_mixture(read("glm4moe", {})).router.renormalise);
  CHECK(last_mixture(read("glm4moe", {{"expert_gating_func", 1U}})).router.score == RouterScore::softmax);
}

/// Latent attention as newer converters write it.
Keys latent_keys(const Keys& changes) {
  Keys keys{{"attention.head_count_kv", 1U},   {"attention.kv_lora_rank", 24U},
            {"attention.key_length", 32U},     {"attention.value_length", 24U},
            {"attention.key_length_mla", 20U}, {"attention.value_length_mla", 16U},
            {"rope.dimension_count", 8U},      {"expert_feed_forward_length", 32U}};
  for (const auto& [key, value] : changes) keys[key] = value;
  return keys;
}

TEST_CASE("latent attention of GGUF keys") {
  const auto latent = [](const Keys& changes) {
    return std::get<LatentAttention>(read("deepseek2", latent_keys(changes)).description.layer(0).mixer);
  };
  LatentAttention expected;
  expected.heads = 4;
  expected.latent_rank = 24;
  expected.plain_dims = 12;
  expected.value_dims = 16;
  expected.rope.rotary_dims = 8;
  expected.rope.base = 1e6;
  CHECK(latent({}) == expected);
  expected.query_rank = 40;
  CHECK(latent({{"attention.q_lora_rank", 40U}}) == expected);
  const Keys yarn{{"rope.scaling.type", "yarn"},
                  {"rope.scaling.factor", 40.0F},
                  {"rope.scaling.original_context_length", 4096U},
                  {"rope.scaling.yarn_log_multiplier", 0.0707F}};
  const double magnitude = 0.1 * 0.707 * std::log(40.0) + 1;
  CHECK(*latent(yarn).scale == doctest::Approx(magnitude * magnitude / std::sqrt(20.0)));
  CHECK(std::get<YarnScaling>(latent(yarn).rope.scaling).cos_sin_factor == 1);
  const auto router = [](const Keys& changes) {
    return last_mixture(read("deepseek2", latent_keys(changes))).router;
  };
  CHECK(router({}).score == RouterScore::softmax);
  CHECK(router({{"expert_gating_func", 2U}}).score == RouterScore::sigmoid);
  const Keys groups{{"expert_group_count", 4U}, {"expert_group_used_count", 2U}};
  CHECK(router(groups).groups == RouterGroups{4, 2, GroupScore::best});
  struct Case {
    const char* key;
    std::uint32_t value;
    const char* cause;
  };
  for (const auto& [key, value, cause] : {
           Case{"attention.head_count_kv", 2, "attention.head_count_kv': is 2, expected 1 or 4"},
           Case{"attention.key_length", 31, "attention.key_length': is 31, but the heads are 32 wide"},
           Case{"attention.value_length", 25, "attention.value_length': is 25, but the heads are 24 wide"},
           Case{"attention.key_length_mla", 8, "rope.dimension_count': is 8, but a head is 8 wide"},
           Case{"attention.kv_lora_rank", 0, "attention.kv_lora_rank': expected a whole number from 1"},
           Case{"attention.temperature_length", 8192, "attention.temperature_length"},
       }) {
    CAPTURE(std::string(key));
    CHECK_ERROR(read("deepseek2", latent_keys({{key, value}})), ErrorKind::malformed, cause);
  }
}

TEST_CASE("rope scaling of GGUF keys") {
  const auto rope = [](const Keys& changes) {
    return *attention(read("qwen3moe", changes).description).rope;
  };
  CHECK(rope({}).scaling == RopeScaling{NoRopeScaling{}});
  CHECK(rope({{"rope.scaling.type", "none"}, {"rope.scaling.factor", 4.0F}}).scaling ==
        RopeScaling{NoRopeScaling{}});
  CHECK(rope({{"rope.scaling.type", "linear"}, {"rope.scaling.factor", 4.0F}}).scaling ==
        RopeScaling{LinearScaling{4}});
  CHECK(rope({{"rope.scale_linear", 2.0F}}).scaling == RopeScaling{LinearScaling{2}});
  YarnScaling yarn;
  yarn.factor = 4;
  yarn.original_context_tokens = 1024;
  yarn.cos_sin_factor = 0.1 * std::log(4.0) + 1;
  const Keys keys{{"rope.scaling.type", "yarn"},
                  {"rope.scaling.factor", 4.0F},
                  {"rope.scaling.original_context_length", 1024U}};
  CHECK(rope(keys).scaling == RopeScaling{yarn});
  Keys more = keys;
  more["rope.scaling.attn_factor"] = 0.5F;
  more["rope.scaling.yarn_beta_fast"] = 16.0F;
  yarn.cos_sin_factor *= 0.5;
  yarn.beta_fast = 16;
  CHECK(rope(more).scaling == RopeScaling{yarn});
  // Granite's key for a model without positions.
  CHECK_FALSE(
      attention(read("granitemoe", {{"rope.scaling.finetuned", false}}).description).rope.has_value());
  CHECK(attention(read("qwen3moe", {{"rope.scaling.finetuned", false}}).description).rope.has_value());
}

TEST_CASE("LFM2's layers without heads of keys are short convolutions") {
  const auto lfm2 = [](const std::vector<std::int32_t>& heads) {
    return read("lfm2moe", {{"attention.head_count_kv", heads},
                            {"leading_dense_block_count", 1U},
                            {"expert_feed_forward_length", 32U},
                            {"shortconv.l_cache", 3U}});
  };
  const ModelDescription model = lfm2({0, 2, 0}).description;
  CHECK(std::get<ShortConvolution>(model.layer(0).mixer).convolution_tokens == 3);
  CHECK(std::get<ShortConvolution>(model.layer(2).mixer).convolution_tokens == 3);
  const auto& attention = std::get<GroupedQueryAttention>(model.layer(1).mixer);
  CHECK(attention.key_heads == 2);
  CHECK(attention.query_key_norm == QueryKeyNorm::per_head);
  CHECK(model.layer(0).feed_forward.dense->width == 96);
  CHECK(model.layer(1).feed_forward.mixture->router.score == RouterScore::sigmoid);
  const std::string key = "key 'lfm2moe.attention.head_count_kv': ";
  CHECK_ERROR(lfm2({0, 2}), ErrorKind::malformed, key + "has 2 numbers, but there are 3 blocks");
  CHECK_ERROR(lfm2({2, 0, 4}), ErrorKind::malformed,
              key + "has 2 and 4, and only 0 may stand beside one other number");
  CHECK_ERROR(lfm2({2, 0, -1}), ErrorKind::malformed, key + "has 2 and -1");
  CHECK_ERROR(lfm2({-1, 0, 2}), ErrorKind::malformed, key + "has 0 and -1");
  CHECK_ERROR(lfm2({0, 0, 0}), ErrorKind::malformed, "expected a whole number from 1");
  CHECK_ERROR(read("lfm2moe", {}), ErrorKind::malformed, key + "is not of the expected type");
  CHECK_ERROR(read("lfm2moe", {{"attention.head_count_kv", std::vector<std::int32_t>{0, 2, 0}}}),
              ErrorKind::malformed, "key 'lfm2moe.shortconv.l_cache': is missing");
}

TEST_CASE("keys that cannot be read are refused by name") {
  struct Case {
    const char* architecture;
    const char* key;
    Value value;
    const char* cause;
  };
  for (const auto& [architecture, key, value, cause] : {
           Case{"qwen3moe", "expert_weights_norm", false,
                "key 'qwen3moe.expert_weights_norm': is false, but llama.cpp computes the opposite"},
           Case{"qwen2moe", "expert_weights_norm", true,
                "key 'qwen2moe.expert_weights_norm': is true, but llama.cpp computes the opposite"},
           Case{"qwen3moe", "expert_gating_func", 2U, "key 'qwen3moe.expert_gating_func': is 2, expected 1"},
           Case{"minimax-m2", "expert_gating_func", 3U,
                "key 'minimax-m2.expert_gating_func': is 3, expected 1 (softmax) or 2 (sigmoid)"},
           Case{"qwen3moe", "rope.scaling.type", "longrope",
                "key 'qwen3moe.rope.scaling.type': is 'longrope', supported are none, linear and yarn"},
           Case{"qwen3moe", "attention.value_length", 8U,
                "key 'qwen3moe.attention.value_length': is 8, but the heads are 16 wide"},
           Case{"qwen3moe", "rope.dimension_count", 17U,
                "key 'qwen3moe.rope.dimension_count': expected a whole number from 1 to 16, found 17"},
           Case{"qwen3moe", "block_count", 100000U,
                "key 'qwen3moe.block_count': expected a whole number from 1 to 1024, found 100000"},
           Case{"qwen3moe", "attention.head_count", 0U, "key 'qwen3moe.attention.head_count'"},
           Case{"qwen3moe", "expert_count", 0U, "key 'qwen3moe.expert_count'"},
           Case{"qwen3moe", "expert_used_count", 9U, "key 'experts_per_token'"},
           Case{"qwen3moe", "expert_count", "8", "key 'qwen3moe.expert_count': expected a whole number"},
           Case{"qwen3moe", "rope.freq_base", 1U, "key 'qwen3moe.rope.freq_base': expected a finite number"},
           Case{"qwen3moe", "expert_weights_norm", 1U, "expected true or false"},
           Case{"qwen3moe", "attention.scale", 0.5F,
                "key 'qwen3moe.attention.scale': is not known, and may change the result"},
           Case{"qwen3moe", "attention.sliding_window", 64U, "is not known, and may change the result"},
           Case{"glm4moe", "nextn_predict_layers", 3U,
                "key 'glm4moe.nextn_predict_layers': is 3, but there are 3 blocks"},
           Case{"glm4moe", "rope.dimension_sections", 16U, "is not known, and may change the result"},
       }) {
    CAPTURE(std::string(cause));
    CHECK_ERROR(read(architecture, {{key, value}}), ErrorKind::malformed, cause);
  }
  for (const char* key :
       {"embedding_length", "block_count", "attention.head_count", "expert_count", "expert_used_count"}) {
    const TempDir folder(tests::fast_directory());
    Keys keys = small_model();
    keys.erase(key);
    CHECK_ERROR(gguf_config(write(folder, "olmoe", keys)), ErrorKind::malformed,
                "key 'olmoe." + std::string(key) + "': is missing");
  }
}

}  // namespace
}  // namespace sluice::format
