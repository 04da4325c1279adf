// The description as a value: JSON and back, bounds, and everything that follows from it, for models of every
// family that it can describe.

#include "format/model_description.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "format/mistral_params.h"
#include "format/model_tensors.h"
#include "format/tensor_names.h"
#include "tests/support/check_error.h"
#include "tests/support/families.h"
#include "tests/support/tiny_release.h"

namespace sluice::format {
namespace {

using base::ErrorKind;

ModelDescription tiny() { return describe(tests::tiny_params()); }

GroupedQueryAttention& attention_of(ModelDescription& model) {
  return std::get<GroupedQueryAttention>(model.layer_kinds[0].mixer);
}

Mixture& mixture_of(ModelDescription& model) { return *model.layer_kinds[0].feed_forward.mixture; }

/// A model that uses every field, each with a value of its own that is not neutral.
ModelDescription with_all_fields() {
  ModelDescription model = tiny();
  model.norm = {2e-5, NormWeights::plus_one};
  model.activation = ClampedSwiglu{1.5, 8};
  model.tied_embeddings = true;
  model.embedding_scale = 12;
  model.residual_scale = 0.22;
  model.logits_scale = 1.0 / 6;
  model.final_soft_cap = 30;
  LayerDescription& layer = model.layer_kinds[0];
  auto& attention = attention_of(model);
  attention.window_tokens = 128;
  attention.input_biases = attention.output_bias = attention.value_norm = attention.keys_are_values = true;
  attention.sinks = attention.output_gate = true;
  attention.query_key_norm = QueryKeyNorm::full_width;
  attention.scale = 0.25;
  attention.soft_cap = 31;
  attention.clip = 5;
  attention.rope = Rope{RopeStyle::half_split, 8, 5e5, YarnScaling{32, 4096, 33, 2, false, 1.34657359}};
  attention.query_temperature = QueryTemperature{0.1, 8192};
  auto& mixture = mixture_of(model);
  mixture.expert_biases = true;
  mixture.router = {
      RouterScore::sigmoid, true, true, true, RouterGroups{2, 1, GroupScore::best_two}, 2.5, true, 1e-6};
  mixture.shared = SharedExpert{96, true};
  layer.feed_forward.dense = DenseFeedForward{160};
  layer.post_norms = layer.output_scale = true;

  const LayerDescription first = layer;
  LayerDescription other = first;
  LatentAttention latent{4,
                         24,
                         32,
                         16,
                         8,
                         1e-6,
                         0.135234,
                         Rope{RopeStyle::interleaved, 6, 1e4, Llama3Scaling{8, 8192, 1, 4}},
                         QueryTemperature{0.2, 4096}};
  other.mixer = latent;
  model.add_layers(1, other);
  other.mixer = GatedDeltaNet{2, 4, 8, 16, 4, DeltaInputs::packed};
  model.add_layers(2, other);
  other.mixer = ShortConvolution{3};
  model.add_layers(1, other);
  auto proportional = std::get<GroupedQueryAttention>(first.mixer);
  proportional.query_key_norm = QueryKeyNorm::per_head;
  proportional.rope = Rope{RopeStyle::half_split, 16, 1e6, ProportionalScaling{4}};
  other.mixer = proportional;
  model.add_layers(1, other);
  return model;
}

ModelDescription read(const std::string& text) { return description_from_json(parse_json(text, "d"), "d"); }

TEST_CASE("a description goes to JSON and back with every field") {
  const ModelDescription model = with_all_fields();
  validate(model, "all");
  const std::string text = to_json(model).dump();
  CHECK(read(text) == model);
  CHECK(to_json(read(text)).dump() == text);
  // A field that to_json forgot could not come back, and one that it does not know would stay neutral.
  CHECK(text.find("null") == std::string::npos);
  ModelDescription gelu = tiny();
  gelu.activation = GeluTanh{};
  CHECK(read(to_json(gelu).dump()) == gelu);
  for (const tests::Family& family : tests::families()) {
    CAPTURE(family.model);
    validate(family.description, family.model);
    CHECK(read(to_json(family.description).dump()) == family.description);
  }
}

TEST_CASE("neutral fields are left out, and keys have one order") {
  CHECK(
      to_json(tiny()).dump() ==
      R"({"width":64,"vocabulary":2048,"norm":{"epsilon":1e-05},"layer_kinds":[{"mixer":)"
      R"({"kind":"grouped-query-attention","heads":4,"key_heads":2,"head_dim":16,"rope":)"
      R"({"style":"interleaved","rotary_dims":16,"base":1e+06}},"feed_forward":{"mixture":)"
      R"({"experts":4,"experts_per_token":2,"width":128,"router":{"score":"softmax","renormalise":true}}}}],)"
      R"("layers":[0,0]})");
}

TEST_CASE("Mistral's parameters and the description say the same") {
  MistralParams params = tests::tiny_params();
  CHECK(mistral_params(describe(params)) == params);
  params.sliding_window = 11;
  CHECK(mistral_params(describe(params)) == params);
  params.num_experts = params.num_experts_per_tok = 0;
  CHECK(mistral_params(describe(params)) == params);
  CHECK(describe(params).layer(1).feed_forward.dense->width == params.hidden_dim);
  for (const tests::Family& family : tests::families()) {
    CAPTURE(family.model);
    const bool expressible = family.model.starts_with("Mixtral") || family.model == "Mistral-7B";
    CHECK(mistral_params(family.description).has_value() == expressible);
  }
}

TEST_CASE("a description is refused with the place and the cause") {
  struct Case {
    std::function<void(ModelDescription&)> change;
    const char* cause;
  };
  const auto attention = [](auto change) {
    return [change](ModelDescription& model) { change(attention_of(model)); };
  };
  const auto mixture = [](auto change) {
    return [change](ModelDescription& model) { change(mixture_of(model)); };
  };
  const auto with_mixer = [](Mixer mixer) {
    return [mixer](ModelDescription& model) { model.layer_kinds[0].mixer = mixer; };
  };
  const Rope rope{RopeStyle::interleaved, 4, 1e4, {}};
  for (const auto& [change, cause] : {
           Case{[](auto& m) { m.width = 0; },
                "d: key 'width': expected a whole number from 1 to 1048576, found 0"},
           Case{[](auto& m) { m.vocabulary = 1u << 25; },
                "d: key 'vocabulary': expected a whole number from 1 to 16777216, found 33554432"},
           Case{[](auto& m) { m.norm.epsilon = 0; },
                "d: key 'norm': key 'epsilon': expected a number from 1e-12 to 1.0, found 0.0"},
           Case{[](auto& m) { m.norm.epsilon = std::nan(""); },
                "d: key 'norm': key 'epsilon': expected a number from 1e-12 to 1.0, found null"},
           Case{[](auto& m) { m.residual_scale = 1e9; },
                "d: key 'residual_scale': expected a number from 1e-06 to 1e+06, found 1e+09"},
           Case{[](auto& m) {
                  m.activation = ClampedSwiglu{1, 0};
                },
                "d: key 'activation': key 'limit': expected a number from 1e-06 to 1e+06, found 0.0"},
           Case{[](auto& m) { m.layers.clear(); }, "d: key 'layers': has 0 layers, expected 1 to 1024"},
           Case{[](auto& m) { m.layers.assign(1025, 0); }, "d: key 'layers': has 1025 layers"},
           Case{[](auto& m) { m.layers[1] = 1; },
                "d: key 'layers': layer 1 has kind 1, expected one of the first 1 of 'layer_kinds'"},
           Case{[](auto& m) { m.layers[0] = 4294967295; }, "d: key 'layers': layer 0 has kind 4294967295"},
           Case{[](auto& m) { m.layer_kinds.push_back(m.layer_kinds[0]); },
                "d: key 'layer_kinds': no layer is of kind 1"},
           Case{[](auto& m) { m.layer_kinds.push_back(m.layer_kinds[0]), m.layers[1] = 1; },
                "d: key 'layer_kinds': two kinds are equal"},
           Case{[](auto& m) { m.layer_kinds[0].feed_forward = {}; },
                "d: key 'layer_kinds[0]': key 'feed_forward': is neither 'dense' nor a 'mixture'"},
           Case{attention([](auto& a) { a.heads = 0; }),
                "d: key 'layer_kinds[0]': key 'mixer': key 'heads': expected a whole number from 1 to "
                "1048576, "
                "found 0"},
           Case{attention([](auto& a) { a.key_heads = 3; }),
                "d: key 'layer_kinds[0]': key 'mixer': 'heads' 4 is not a multiple of 'key_heads' 3"},
           Case{attention([](auto& a) { a.heads = 65536, a.head_dim = 64; }),
                "key 'mixer': key 'heads x head_dim': expected a whole number from 1 to 1048576, found "
                "4194304"},
           Case{attention([](auto& a) { a.window_tokens = 0; }),
                "key 'window_tokens': expected a whole number"},
           Case{attention([](auto& a) { a.scale = -1; }), "key 'scale': expected a number from 1e-06"},
           Case{attention([](auto& a) { a.rope->rotary_dims = 15; }),
                "key 'rope': key 'rotary_dims': is odd (15), but RoPE turns pairs"},
           Case{attention([](auto& a) { a.rope->rotary_dims = 32; }),
                "key 'rope': key 'rotary_dims': expected a whole number from 1 to 16, found 32"},
           Case{attention([](auto& a) { a.rope->base = 0; }), "key 'base': expected a number from 1.0"},
           Case{attention([](auto& a) {
                  a.rope->scaling = YarnScaling{0.5, 4096};
                }),
                "key 'scaling': key 'factor': expected a number from 1.0 to 1e+06, found 0.5"},
           Case{attention([](auto& a) {
                  a.rope->scaling = YarnScaling{2, 0};
                }),
                "key 'scaling': key 'original_context_tokens': expected a whole number"},
           Case{attention([](auto& a) { a.rope->scaling = ProportionalScaling{18}; }),
                "key 'turned_dims': expected a whole number from 1 to 16, found 18"},
           Case{attention([](auto& a) {
                  a.query_temperature = QueryTemperature{0, 1};
                }),
                "key 'query_temperature': key 'beta': expected a number"},
           Case{mixture([](auto& x) { x.experts_per_token = 5; }),
                "key 'mixture': key 'experts_per_token': expected a whole number from 1 to 4, found 5"},
           Case{mixture([](auto& x) { x.router.renormalise_epsilon = 1; }),
                "d: key 'layer_kinds[0]': key 'feed_forward': key 'mixture': key 'router': key "
                "'renormalise_epsilon': expected a number from 1e-20 to 0.01, found 1.0"},
           Case{mixture([](auto& x) { x.experts = 1025; }),
                "key 'experts': expected a whole number from 1 to 1024"},
           Case{mixture([](auto& x) {
                  x.router.groups = RouterGroups{3, 1, GroupScore::best};
                }),
                "key 'mixture': 'experts' 4 is not a multiple of 'groups' 3"},
           Case{mixture([](auto& x) {
                  x.router.groups = RouterGroups{2, 3, GroupScore::best};
                }),
                "key 'groups': key 'kept': expected a whole number from 1 to 2, found 3"},
           Case{mixture([](auto& x) {
                  x.router.groups = RouterGroups{4, 1, GroupScore::best};
                }),
                "key 'mixture': key 'experts_per_token': expected a whole number from 1 to 1, found 2"},
           Case{mixture([](auto& x) {
                  x.router.groups = RouterGroups{4, 2, GroupScore::best_two};
                }),
                "key 'groups': have one expert each, but the score is of two"},
           Case{mixture([](auto& x) {
                  x.shared = SharedExpert{0, false};
                }),
                "key 'shared': key 'width'"},
           Case{with_mixer(LatentAttention{0, {}, 8, 8, 8, {}, {}, rope, {}}), "key 'mixer': key 'heads'"},
           Case{with_mixer(LatentAttention{1, 0, 8, 8, 8, {}, {}, rope, {}}),
                "key 'mixer': key 'query_rank'"},
           Case{with_mixer(LatentAttention{1u << 18, {}, 8, 8, 8, {}, {}, rope, {}}),
                "key 'heads x (plain_dims + rotary_dims)': expected a whole number from 1 to 1048576"},
           Case{with_mixer(LatentAttention{1, {}, 8, 8, 1u << 20, {}, {}, rope, {}}),
                "key 'heads x (plain_dims + value_dims)'"},
           Case{with_mixer(LatentAttention{1u << 10, {}, 1021, 8, 8, {}, {}, rope, {}}),
                "key 'heads x (latent_rank + rotary_dims)'"},
           Case{with_mixer(GatedDeltaNet{3, 4, 8, 8, 4, {}}),
                "'value_heads' 4 is not a multiple of 'key_heads' 3"},
           Case{with_mixer(GatedDeltaNet{1, 4, 8, 1u << 20, 4, {}}), "key 'value_heads x value_dim'"},
           Case{with_mixer(ShortConvolution{0}), "key 'mixer': key 'convolution_tokens'"},
       }) {
    ModelDescription model = tiny();
    change(model);
    CHECK_ERROR(validate(model, "d"), ErrorKind::malformed, cause);
  }
  ModelDescription many = tiny();
  mixture_of(many).experts = 1024;
  many.layers.assign(65, 0);
  CHECK_ERROR(validate(many, "d"), ErrorKind::malformed,
              "d: has 66560 experts in all layers, expected at most 65536");
}

TEST_CASE("JSON that to_json does not write is refused by its cause") {
  const std::string good = to_json(tiny()).dump();
  const auto check = [&](std::string_view from, std::string_view to, std::string_view cause) {
    CAPTURE(to);
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    CHECK_ERROR(read(text), ErrorKind::malformed, std::string(cause));
  };
  check(R"("width":64,)", "", "d: key 'width' is missing");
  check(R"("width":64,)", R"("width":"64",)", "d: key 'width': expected a whole number");
  check(R"("width":64,)", R"("width":64,"depth":2,)", "d: unknown key 'depth'");
  check(R"("width":64,)", R"("width":64,"tied_embeddings":1,)", "d: key 'tied_embeddings': expected");
  check(R"("width":64,"vocabulary":2048,)", R"("vocabulary":2048,"width":64,)",
        "d: is not in canonical form");
  check(R"("width":64,)", R"("width":64,"tied_embeddings":false,)", "d: is not in canonical form");
  check(R"("norm":{"epsilon":1e-05})", R"("norm":{"epsilon":1e-05,"bias":true})",
        "d: key 'norm': unknown key 'bias'");
  check(R"("norm":{"epsilon":1e-05})", R"("norm":[])", "d: key 'norm': expected an object");
  check(R"("kind":"grouped-query-attention")", R"("kind":"mamba")",
        "d: key 'layer_kinds[0]': key 'mixer': key 'kind': expected one of grouped-query-attention, "
        "latent-attention, gated-delta-net, short-convolution; found \"mamba\"");
  check(R"("kind":"grouped-query-attention",)", "", "key 'mixer': key 'kind' is missing");
  check(R"("style":"interleaved")", R"("style":"neox")", "expected one of interleaved, half-split; found");
  check(R"("score":"softmax")", R"("score":"softmax","noise":0.1)", "key 'router': unknown key 'noise'");
  check(R"("layers":[0,0])", R"("layers":[0,-1])", "d: key 'layers': expected a whole number");
  check(R"("layers":[0,0])", R"("layers":[0,18446744073709551615])", "d: key 'layers': layer 1 has kind");
  check(R"("layers":[0,0])", R"("layers":{})", "d: key 'layers': expected an array");
  CHECK_ERROR(read("[]"), ErrorKind::malformed, "d: expected an object");
}

TEST_CASE("the tensors that follow are all the weights of the published models") {
  for (const tests::Family& family : tests::families()) {
    double weights = 0;
    std::set<std::string> names;
    for (const ModelTensor& tensor : model_tensors(family.description)) {
      weights += static_cast<double>(element_count(tensor.shape).value());
      names.insert(tensor.name);
      CHECK(tensor.is_matrix() == (tensor.quantization != QuantizationClass::unquantized &&
                                   tensor.quantization != QuantizationClass::embedding));
    }
    CHECK_MESSAGE(std::abs(weights / 1e9 - family.billion_weights) < 0.0051 + family.billion_weights * 1e-5,
                  family.model << " has " << weights / 1e9);
    CHECK(names.size() == model_tensors(family.description).size());
  }
}

TEST_CASE("roles, order, experts and inputs of a layer of Mixtral and of one with everything") {
  const auto tensors = model_tensors(tiny());
  REQUIRE(tensors.size() == 3 + 2 * (7 + 4 * 3));
  CHECK(tensors[2].name == "layers.0.attention.wq.weight");
  CHECK(tensors[2].role == TensorRole::query);
  CHECK(tensors[2].shape == Shape{64, 64});
  CHECK(tensors[2].input == tensors[4].input);
  CHECK(tensors[2].input != tensors[5].input);
  CHECK(tensors[8].name == "layers.0.feed_forward.experts.0.w1.weight");
  CHECK(tensors[9].name == "layers.0.feed_forward.experts.0.w3.weight");
  CHECK(tensors[10].name == "layers.0.feed_forward.experts.0.w2.weight");
  CHECK(tensors[10].expert == 0);
  CHECK(tensors[11].expert == 1);
  CHECK(tensors[8].input == tensors[9].input);
  CHECK(tensors[10].input == MatrixInput::hidden);
  CHECK(matrix_label(TensorRole::query) == "wq");
  CHECK(matrix_label(TensorRole::expert_down) == "w2");

  // A dense layer counts as one expert; in addition to a mixture it counts as none.
  ModelDescription dense = tiny();
  dense.layer_kinds[0].feed_forward = {DenseFeedForward{96}, {}};
  CHECK(expert_tensors(dense, 1, 0)[2].name == "layers.1.feed_forward.w2.weight");
  CHECK(expert_count(dense.layer(0)) == 1);
  const ModelDescription all = with_all_fields();
  const auto expert = expert_tensors(all, 0, 3);
  REQUIRE(expert.size() == 6);
  CHECK(expert[1].name == "layers.0.feed_forward.experts.3.w1.bias");
  CHECK(expert[0].input == MatrixInput::experts);
  std::uint64_t experts = 0;
  for (const ModelTensor& tensor : model_tensors(all)) {
    if (tensor.role == TensorRole::dense_up) CHECK_FALSE(tensor.expert.has_value());
    if (tensor.role == TensorRole::head) FAIL("tied embeddings have no head");
    if (tensor.role == TensorRole::embedding) {
      CHECK(tensor.quantization == QuantizationClass::head);
      CHECK(tensor.input == MatrixInput::head);
    }
    experts += tensor.role == TensorRole::expert_down;
  }
  CHECK(experts == 4 * all.layer_count());
}

TEST_CASE("layouts name the tensors of today's models, and refuse others by name") {
  const auto check = [](const ModelDescription& model) {
    for (const ModelTensor& tensor : model_tensors(model)) {
      CHECK(native_placements(tensor, model).front().name == tensor.name);
      CHECK_FALSE(hub_placements(tensor, model).front().name.empty());
      CHECK_FALSE(gguf_placements(tensor, model).front().name.empty());
    }
  };
  check(tiny());
  ModelDescription dense = tiny();
  dense.layer_kinds[0].feed_forward = {DenseFeedForward{96}, {}};
  check(dense);
  ModelDescription other = tiny();
  other.layer_kinds[0].output_scale = true;
  for (const ModelTensor& tensor : model_tensors(other)) {
    if (tensor.role != TensorRole::output_scale || tensor.layer > 0) continue;
    CHECK_ERROR(gguf_placements(tensor, other), ErrorKind::malformed,
                "tensor 'layers.0.output_scale': has no name in the layout 'gguf' that is known");
  }
}

}  // namespace
}  // namespace sluice::format
