// config.json of families with several kinds of layers: which kind each layer has, the parts of Gemma-4, the
// text part of models that read images, and what is refused by its key.

#include "format/hub/hybrid_config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <string_view>

#include "tests/support/check_error.h"
#include "tests/support/family_configs.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::changed_config;
using tests::changed_text;

ModelDescription parse(const std::string& text) { return parse_model_config(text, "c").description; }

const GroupedQueryAttention& attention(const ModelDescription& model, std::uint64_t layer) {
  return std::get<GroupedQueryAttention>(model.layer(layer).mixer);
}

/// One letter a layer: full attention, or a Window, Delta net or short Convolution.
std::string kinds(const ModelDescription& model) {
  std::string text;
  for (std::uint64_t layer = 0; layer < model.layer_count(); ++layer) {
    const Mixer& mixer = model.layer(layer).mixer;
    const auto* full = std::get_if<GroupedQueryAttention>(&mixer);
    text += full != nullptr                                ? (full->window_tokens ? 'w' : 'f')
            : std::holds_alternative<GatedDeltaNet>(mixer) ? 'd'
                                                           : 'c';
  }
  return text;
}

/// `types` has one letter a layer, as kinds() has.
std::string layer_types(std::string_view types) {
  std::string list;
  for (const char type : types) {
    const std::string name = type == 'f'   ? "full_attention"
                             : type == 'w' ? "sliding_attention"
                             : type == 'd' ? "linear_attention"
                                           : "conv";
    list += (list.empty() ? "[\"" : ", \"") + name + "\"";
  }
  return list + "]";
}

TEST_CASE("which layers have full attention: a list, or a rule") {
  for (const char* family : {"qwen3_next", "qwen3_5_moe_text"}) {
    CHECK(kinds(parse(tests::small_config(family))) == "dddfdd");
    CHECK(kinds(parse(changed_config(family, "full_attention_interval", "2"))) == "dfdfdf");
    CHECK(kinds(parse(changed_config(family, "full_attention_interval", ""))) == "dddfdd");
    // transformers does not look at the interval where there is a list.
    CHECK(kinds(parse(changed_config(family, "layer_types", layer_types("ddfddf")))) == "ddfddf");
  }
  CHECK(kinds(parse(tests::small_config("gemma4_text"))) == "wwwwwf");
  CHECK(kinds(parse(changed_config("gemma4_text", "layer_types", layer_types("wfwwwf")))) == "wfwwwf");
  const std::string seven = changed_config("gemma4_text", "num_hidden_layers", "7");
  CHECK(kinds(parse(seven)) == "wwwwwff");
  CHECK(kinds(parse(tests::small_config("lfm2_moe"))) == "ccfcfc");
  CHECK(kinds(parse(changed_config("lfm2_moe", "full_attn_idxs", "[4, 2]"))) == "ccfcfc");
  const std::string by_index = changed_config("lfm2_moe", "layer_types", "");
  CHECK(kinds(parse(changed_text(by_index, "full_attn_idxs", "[0, 5]"))) == "fccccf");
}

TEST_CASE("Qwen3-Next packs the inputs of its delta nets, Qwen3.5 does not") {
  const ModelDescription next = parse(tests::small_config("qwen3_next"));
  const ModelDescription qwen35 = parse(tests::small_config("qwen3_5_moe_text"));
  CHECK(std::get<GatedDeltaNet>(next.layer(0).mixer) == GatedDeltaNet{2, 6, 12, 20, 4, DeltaInputs::packed});
  CHECK(std::get<GatedDeltaNet>(qwen35.layer(0).mixer) ==
        GatedDeltaNet{2, 6, 12, 20, 4, DeltaInputs::separate});
  for (const ModelDescription& model : {next, qwen35}) {
    CHECK(model.norm.weights == NormWeights::plus_one);
    CHECK(attention(model, 3).output_gate);
    CHECK(attention(model, 3).rope->rotary_dims == 8);  // of 32
    CHECK(model.layer(0).feed_forward.mixture->shared == SharedExpert{36, true});
    CHECK(model.layer(0).feed_forward.mixture->router.renormalise);
  }
  CHECK(attention(parse(changed_config("qwen3_next", "partial_rotary_factor", "")), 3).rope->rotary_dims ==
        8);
  CHECK_FALSE(parse(changed_config("qwen3_next", "norm_topk_prob", "false"))
                  .layer(0)
                  .feed_forward.mixture->router.renormalise);
  const auto dense = parse(changed_config("qwen3_next", "mlp_only_layers", "[0]"));
  CHECK(dense.layer(0).feed_forward.dense == DenseFeedForward{5120});
  CHECK(dense.layer(1).feed_forward.mixture);
  // Sections of images are for text what one rope is.
  const auto older =
      changed_config("qwen3_5_moe_text", "rope_parameters",
                     R"({"rope_type": "default", "rope_theta": 1e7, "mrope_section": [1, 2, 1]})");
  CHECK(parse(older) == qwen35);
}

TEST_CASE("Gemma-4: two kinds of heads, each with a rope of its own") {
  const ModelDescription model = parse(tests::small_config("gemma4_text"));
  CHECK(model.embedding_scale == std::sqrt(96.0));
  CHECK(model.final_soft_cap == 30);
  CHECK(model.tied_embeddings);
  CHECK(std::holds_alternative<GeluTanh>(model.activation));
  const auto& sliding = attention(model, 0);
  const auto& full = attention(model, 5);
  CHECK(sliding.window_tokens == 12U);
  CHECK(sliding.head_dim == 16);
  CHECK(full.head_dim == 32);
  CHECK(sliding.key_heads == 2);
  CHECK(full.key_heads == 1);
  CHECK(full.keys_are_values);
  CHECK_FALSE(sliding.keys_are_values);
  CHECK(*sliding.rope == Rope{RopeStyle::half_split, 16, 1e4, NoRopeScaling{}});
  CHECK(*full.rope == Rope{RopeStyle::half_split, 32, 1e6, ProportionalScaling{8}});
  // The class has the same ropes where a file has none.
  CHECK(parse(changed_config("gemma4_text", "rope_parameters", "")) == model);
  const auto whole = changed_config("gemma4_text", "rope_parameters",
                                    R"({"full_attention": {"rope_type": "proportional", "rope_theta": 5e5},
                                        "sliding_attention": {"rope_theta": 2e4}})");
  CHECK(*attention(parse(whole), 5).rope == Rope{RopeStyle::half_split, 32, 5e5, ProportionalScaling{32}});
  CHECK(attention(parse(whole), 0).rope->base == 2e4);
  const auto& separate = parse(changed_config("gemma4_text", "attention_k_eq_v", "false"));
  CHECK_FALSE(attention(separate, 5).keys_are_values);
  CHECK(attention(separate, 5).key_heads == 2);
  const auto uncapped = parse(changed_config("gemma4_text", "final_logit_softcapping", "null"));
  CHECK_FALSE(uncapped.final_soft_cap.has_value());
}

TEST_CASE("Gemma-4's dense models have the same layers without experts") {
  std::string text = changed_config("gemma4_text", "enable_moe_block", "false");
  for (const char* key : {"num_experts", "top_k_experts", "moe_intermediate_size"})
    text = changed_text(text, key, "null");
  const ModelDescription model = parse(text);
  CHECK(model.layer(0).feed_forward == FeedForward{DenseFeedForward{84}, {}});
  CHECK(model.layer(0).post_norms);
  CHECK(model.layer(0).output_scale);
}

TEST_CASE("LFM2: dense layers first, a router with a bias, and a tied head in both spellings") {
  const ModelDescription model = parse(tests::small_config("lfm2_moe"));
  CHECK(model.layer(1).feed_forward.dense == DenseFeedForward{184});
  const Router& router = model.layer(2).feed_forward.mixture->router;
  CHECK(router.score == RouterScore::sigmoid);
  CHECK(router.selection_bias);
  CHECK(router.renormalise);
  CHECK(model.norm.epsilon == 1e-5);
  CHECK(model.tied_embeddings);
  CHECK(std::get<ShortConvolution>(model.layer(0).mixer).convolution_tokens == 3);
  CHECK(parse(changed_config("lfm2_moe", "tie_embedding", "")).tied_embeddings);
  CHECK_FALSE(parse(changed_config("lfm2_moe", "tie_embedding", "false")).tied_embeddings);
  const auto newer =
      changed_text(changed_config("lfm2_moe", "tie_embedding", ""), "tie_word_embeddings", "false");
  CHECK_FALSE(parse(newer).tied_embeddings);
  CHECK(kinds(parse(changed_config("lfm2_moe", "num_dense_layers", "9"))) == "ccfcfc");
  const auto scaled =
      changed_text(changed_config("lfm2_moe", "use_expert_bias", "false"), "routed_scaling_factor", "1.5");
  CHECK_FALSE(parse(scaled).layer(2).feed_forward.mixture->router.selection_bias);
  CHECK(parse(scaled).layer(2).feed_forward.mixture->router.scale == 1.5);
  const auto rope = changed_text(changed_config("lfm2_moe", "rope_theta", ""), "rope_parameters",
                                 R"({"rope_theta": 5e6, "rope_type": "default"})");
  CHECK(attention(parse(rope), 2).rope->base == 5e6);
}

TEST_CASE("the text part of a model that reads images") {
  for (const char* family : {"qwen3_5_moe_text", "gemma4_text"}) {
    const std::string text = tests::small_config(family);
    const std::string whole = tests::whole_config(text);
    CHECK(parse(whole) == parse(text));
    // The flag may stand on either side.
    const std::string untied = tests::whole_config(changed_text(text, "tie_word_embeddings", ""));
    CHECK(parse(untied) == parse(text));
    CHECK(parse(changed_text(whole, "tie_word_embeddings", "")) == parse(text));
    const auto config = parse_model_config(changed_text(whole, "my_note", "1"), "c");
    CHECK(config.skipped_keys == std::vector<std::string>{"my_note"});
    CHECK_ERROR(parse(changed_text(whole, "text_config", "[1]")), ErrorKind::malformed,
                "c: key 'text_config': expected an object, found an array");
    CHECK_ERROR(parse(changed_text(whole, "text_config", "{}")), ErrorKind::malformed,
                "c: key 'text_config': key 'hidden_size' is missing");
    CHECK_ERROR(parse(changed_text(whole, "text_config", R"({"model_type": "llama4_text"})")),
                ErrorKind::malformed,
                "c: key 'text_config': the architecture model_type 'llama4_text' is not supported");
    CHECK_ERROR(parse(changed_text(whole, "quantization_config", R"({"quant_method": "awq"})")),
                ErrorKind::malformed,
                "c: key 'quantization_config': key 'quant_method': has the value \"awq\"");
    CHECK_ERROR(parse(changed_text(whole, "residual_scale", "0.5")), ErrorKind::malformed,
                "c: key \"residual_scale\" with value 0.5 is not known, and may change the result");
    CHECK_ERROR(parse(tests::whole_config(changed_text(text, "residual_scale", "0.5"))), ErrorKind::malformed,
                "c: key 'text_config': key \"residual_scale\" with value 0.5 is not known");
  }
  const std::string qwen = tests::whole_config(tests::small_config("qwen3_5_moe_text"));
  CHECK_ERROR(parse(changed_text(qwen, "tie_word_embeddings", "true")), ErrorKind::malformed,
              "c: key 'text_config': key 'tie_word_embeddings': has the value false, which is not supported, "
              "expected true as outside of it");
  // The FP8 releases name each matrix that stays as it is.
  const std::string fp8 =
      changed_text(qwen, "quantization_config",
                   R"({"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
      "weight_block_size": [128, 128], "modules_to_not_convert": ["model.language_model.layers.0.mlp.gate"]})");
  CHECK(parse(fp8) == parse(qwen));
}

TEST_CASE("what these families do not compute is refused by the key") {
  struct Case {
    const char* family;
    const char* key;
    const char* value;
    const char* cause;
  };
  for (
      const auto& [family, key, value, cause] : {
          Case{"qwen3_next", "linear_num_key_heads", "", "c: key 'linear_num_key_heads' is missing"},
          Case{"qwen3_next", "linear_num_value_heads", "5",
               "'value_heads' 5 is not a multiple of 'key_heads' 2"},
          Case{"qwen3_next", "linear_conv_kernel_dim", "0",
               "c: key 'linear_conv_kernel_dim': expected a whole number from 1"},
          Case{"qwen3_next", "full_attention_interval", "0",
               "c: key 'full_attention_interval': expected a whole number from 1 to 1024, found 0"},
          Case{"qwen3_next", "use_sliding_window", "true",
               "c: key 'use_sliding_window': has the value true, which is not supported, expected false"},
          Case{
              "qwen3_next", "layer_types", R"(["conv","conv","conv","conv","conv","conv"])",
              "c: key 'layer_types': has the value \"conv\", which is not supported, expected full_attention "
              "or linear_attention"},
          Case{"qwen3_next", "shared_expert_intermediate_size", "",
               "c: key 'shared_expert_intermediate_size' is missing"},
          Case{"qwen3_5_moe_text", "attn_output_gate", "false",
               "c: key 'attn_output_gate': has the value false, which is not supported, expected true"},
          Case{"qwen3_5_moe_text", "mlp_only_layers", "[1]", "c: key 'mlp_only_layers': has the value [1]"},
          Case{"qwen3_5_moe_text", "decoder_sparse_step", "2",
               "c: key 'decoder_sparse_step': has the value 2"},
          Case{"qwen3_5_moe_text", "norm_topk_prob", "false",
               "c: key 'norm_topk_prob': has the value false, which is not supported, expected true"},
          Case{"qwen3_5_moe_text", "layer_types", R"(["full_attention"])",
               "c: key 'layer_types': has 1 layers, but 'num_hidden_layers' is 6"},
          Case{"gemma4_text", "num_kv_shared_layers", "2",
               "c: key 'num_kv_shared_layers': has the value 2, which is not supported, expected 0"},
          Case{"gemma4_text", "hidden_size_per_layer_input", "256",
               "c: key 'hidden_size_per_layer_input': has the value 256, which is not supported, expected 0"},
          Case{"gemma4_text", "use_double_wide_mlp", "true",
               "c: key 'use_double_wide_mlp': has the value true"},
          Case{
              "gemma4_text", "use_bidirectional_attention", "\"all\"",
              "c: key 'use_bidirectional_attention': has the value \"all\", which is not supported, expected "
              "\"vision\""},
          Case{"gemma4_text", "attn_logit_softcapping", "50",
               "c: key 'attn_logit_softcapping': has the value 50, which is not supported, expected null"},
          Case{"gemma4_text", "hidden_activation", "\"silu\"",
               "c: key 'hidden_activation': has the value \"silu\", which is not supported, expected "
               "\"gelu_pytorch_tanh\""},
          Case{"gemma4_text", "num_experts", "null", "c: key 'num_experts' is missing"},
          Case{"gemma4_text", "sliding_window", "", "c: key 'sliding_window' is missing"},
          Case{"gemma4_text", "num_global_key_value_heads", "4",
               "'heads' 6 is not a multiple of 'key_heads' 4"},
          Case{"gemma4_text", "rope_parameters", R"({"rope_theta": 1e6, "rope_type": "default"})",
               "c: key 'rope_parameters': key 'sliding_attention' is missing"},
          Case{
              "gemma4_text", "rope_parameters",
              R"({"sliding_attention": {"rope_theta": 1e4}, "full_attention": {"rope_type": "proportional",
                   "factor": 8.0}})",
              "c: key 'rope_parameters': key 'full_attention': key 'factor': has the value 8.0, which is not "
              "supported, expected 1"},
          Case{"gemma4_text", "rope_theta", "10000.0",
               "c: key \"rope_theta\" with value 10000.0 is not known, and may change the result"},
          Case{"lfm2_moe", "conv_bias", "true",
               "c: key 'conv_bias': has the value true, which is not supported, expected false"},
          Case{"lfm2_moe", "layer_types", "", "c: key 'layer_types' is missing"},
          Case{"lfm2_moe", "full_attn_idxs", "[2]",
               "c: key 'full_attn_idxs': says other layers than 'layer_types'"},
          Case{"lfm2_moe", "full_attn_idxs", "[6]",
               "c: key 'full_attn_idxs': has 6, expected numbers below 6"},
          Case{"lfm2_moe", "conv_L_cache", "", "c: key 'conv_L_cache' is missing"},
          Case{"lfm2_moe", "block_multiple_of", "256",
               "c: key \"block_multiple_of\" with value 256 is not known, and may change the result"},
      }) {
    CAPTURE(std::string(family));
    CAPTURE(std::string(key));
    CAPTURE(std::string(value));
    CHECK_ERROR(parse(changed_config(family, key, value)), ErrorKind::malformed, cause);
  }
}

}  // namespace
}  // namespace sluice::format
