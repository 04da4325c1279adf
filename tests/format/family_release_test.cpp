// Releases of each family in each layout: every tensor of the model is found, and has the values that were
// written for it.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/file.h"
#include "format/checkpoint_map.h"
#include "format/hub/family_config.h"
#include "format/released_model.h"
#include "tests/support/check_error.h"
#include "tests/support/family_configs.h"
#include "tests/support/family_release.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::FamilyNaming;
using tests::RawTensor;
using tests::TempDir;

ModelDescription described(std::string_view family) {
  return parse_model_config(tests::small_config(family), "c").description;
}

std::vector<float> values_of(const ReleasedModel& model, const TensorView& view) {
  const auto file = base::File::open_read(model.files[view.file_index]);
  const TensorSource source(view, file);
  std::vector<std::byte> bytes;
  source.read_rows(0, source.rows(), bytes);
  std::vector<float> values(source.rows() * source.cols());
  source.to_floats(bytes, 0, values);
  return values;
}

std::vector<float> values_of(const RawTensor& tensor) {
  const auto bytes = base::as_bytes(tensor.bytes);
  std::vector<float> values;
  for (std::size_t at = 0; at < bytes.size(); at += size_bytes(tensor.dtype)) {
    values.push_back(tensor.dtype == DType::f32 ? base::load_le<float>(bytes, at)
                                                : bf16_to_f32(base::load_le<std::uint16_t>(bytes, at)));
  }
  return values;
}

void check_values(const ReleasedModel& model, const std::vector<RawTensor>& native) {
  REQUIRE(model.tensors.size() == native.size());
  for (std::size_t i = 0; i < native.size(); ++i) {
    CAPTURE(native[i].name);
    CHECK(model.tensors[i].target.name == native[i].name);
    CHECK(values_of(model, model.tensors[i].view) == values_of(native[i]));
  }
}

RawTensor zeros(std::string name, Shape shape) {
  return {std::move(name), DType::bf16, shape, std::string(element_count(shape).value() * 2, '\0')};
}

TEST_CASE("tensors of every family are found under the names of transformers, one by one and fused") {
  for (const char* family : tests::small_families()) {
    const auto native = tests::make_family_tensors(described(family), 1);
    for (const FamilyNaming naming : tests::kFamilyNamings) {
      CAPTURE(std::string(family));
      CAPTURE(static_cast<int>(naming));
      const TempDir folder(tests::fast_directory());
      tests::write_family_release(folder.path(), tests::small_config(family),
                                  tests::to_family_names(family, naming, native));
      const ReleasedModel model = open_released_model(folder.path());
      check_values(model, native);
      const bool fused = naming == FamilyNaming::fused || std::string(family) == "granitemoe" ||
                         std::string(family) == "gpt_oss";
      CHECK(model.layout == (fused ? "fused" : "hugging-face"));
      CHECK(model.skipped_tensors.empty());
      CHECK(model.params_text == tests::small_config(family));
    }
  }
}

TEST_CASE("a model that reads images, too, has its text part behind a prefix, or in a model of its own") {
  for (const char* family : {"qwen3_5_moe_text", "gemma4_text"}) {
    const auto native = tests::make_family_tensors(described(family), 3);
    for (const std::string root : {"model.language_model.", "language_model.model."}) {
      CAPTURE(std::string(family));
      CAPTURE(root);
      auto tensors = tests::to_family_names(family, FamilyNaming::fused, native);
      for (RawTensor& tensor : tensors) {
        if (tensor.name.starts_with("model.")) tensor.name.replace(0, std::strlen("model."), root);
        if (tensor.name == "lm_head.weight" && root.ends_with(".model."))
          tensor.name.insert(0, "language_model.");
      }
      for (const char* other :
           {"model.visual.merger.norm.weight", "mtp.fc.weight", "model.vision_tower.std_bias",
            "model.embed_vision.a", "model.audio_tower.b", "model.embed_audio.c"})
        tensors.push_back(zeros(other, {2, 3}));
      const TempDir folder(tests::fast_directory());
      tests::write_family_release(folder.path(), tests::whole_config(tests::small_config(family)), tensors);
      const ReleasedModel model = open_released_model(folder.path());
      check_values(model, native);
      CHECK(model.layout == "fused");
      CHECK(model.skipped_tensors.size() == 6);
    }
  }
}

TEST_CASE("GGUF files of every family have the same model, but for Granite's order of rows") {
  for (const char* family : tests::small_gguf_families()) {
    CAPTURE(std::string(family));
    ModelDescription expected = described(family);
    const auto native = tests::make_family_tensors(expected, 2);
    const TempDir folder(tests::fast_directory());
    tests::write_family_gguf(folder / "m.gguf", family, native);
    const ReleasedModel model = open_released_model(folder / "m.gguf");
    if (std::string(family) == "granitemoe") {
      // llama.cpp rotates neighbours there, and its converter brings the rows into that order.
      std::get<GroupedQueryAttention>(expected.layer_kinds[0].mixer).rope->style = RopeStyle::interleaved;
      CHECK(model.description.logits_scale == doctest::Approx(expected.logits_scale));
      expected.logits_scale = model.description.logits_scale;
    }
    CHECK(model.description == expected);
    check_values(model, native);
    CHECK(model.layout == "gguf");
  }
}

TEST_CASE("a shared expert of Granite, with gate above up") {
  const std::string config =
      tests::changed_text(tests::changed_config("granitemoe", "model_type", "\"granitemoeshared\""),
                          "shared_intermediate_size", "72");
  const std::string text = tests::changed_text(config, "architectures", R"(["GraniteMoeSharedForCausalLM"])");
  const auto native = tests::make_family_tensors(parse_model_config(text, "c").description, 3);
  std::vector<RawTensor> tensors;
  for (RawTensor& tensor : tests::to_family_names("granitemoe", FamilyNaming::released, native)) {
    const auto at = tensor.name.find("mlp.shared_experts.");
    if (at == std::string::npos) {
      tensors.push_back(std::move(tensor));
    } else if (tensor.name.ends_with("w2.weight")) {
      tensor.name.replace(at, std::string::npos, "shared_mlp.output_linear.weight");
      tensors.push_back(std::move(tensor));
    } else if (tensor.name.ends_with("w3.weight")) {  // stands behind w1
      tensors.back().shape[0] *= 2;
      tensors.back().bytes += tensor.bytes;
    } else {
      tensor.name.replace(at, std::string::npos, "shared_mlp.input_linear.weight");
      tensors.push_back(std::move(tensor));
    }
  }
  const TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), text, tensors);
  check_values(open_released_model(folder.path()), native);
}

TEST_CASE("layers of multi-token prediction, towers and tables are left out and counted") {
  const auto native = tests::make_family_tensors(described("glm4_moe"), 4);
  auto tensors = tests::to_family_names("glm4_moe", FamilyNaming::released, native);
  for (const char* name :
       {"model.layers.6.eh_proj.weight", "model.layers.6.mlp.experts.0.up_proj.weight", "mtp.fc.weight",
        "model.visual.blocks.0.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"})
    tensors.push_back(zeros(name, {2, 3}));
  const TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), tests::small_config("glm4_moe"), tensors);
  const ReleasedModel model = open_released_model(folder.path());
  check_values(model, native);
  CHECK(model.skipped_tensors ==
        std::vector<SkippedTensors>{
            {".rotary_emb.inv_freq", 1}, {"model.layers.6.", 2}, {"model.visual.", 1}, {"mtp.", 1}});
  // Without an announcement, only a layer that shows what it is may stand behind the last one.
  const auto open_with = [&](const char* announced, const char* name) {
    auto more = tests::to_family_names("glm4_moe", FamilyNaming::released, native);
    more.push_back(zeros(name, {2, 3}));
    tests::write_family_release(
        folder.path(), tests::changed_config("glm4_moe", "num_nextn_predict_layers", announced), more);
    return open_released_model(folder.path()).skipped_tensors.size();
  };
  CHECK(open_with("0", "model.layers.6.eh_proj.weight") == 1);
  CHECK(open_with("1", "model.layers.6.input_layernorm.weight") == 1);
  CHECK_ERROR(
      open_with("0", "model.layers.6.input_layernorm.weight"), ErrorKind::malformed,
      "tensor 'model.layers.6.input_layernorm.weight' [2, 3] is not part of the model that config.json "
      "describes");
  CHECK_ERROR(open_with("1", "model.layers.7.input_layernorm.weight"), ErrorKind::malformed,
              "is not part of the model");
  CHECK_ERROR(open_with("1", "model.layers.5.eh_proj.weight"), ErrorKind::malformed,
              "is not part of the model");
  CHECK_ERROR(open_with("1", "model.layers.99999999999999999999.a"), ErrorKind::malformed,
              "is not part of the model");
}

TEST_CASE("a head in the files of a model with tied embeddings is left out") {
  const auto native = tests::make_family_tensors(described("granitemoe"), 5);
  auto tensors = tests::to_family_names("granitemoe", FamilyNaming::released, native);
  tensors.push_back(zeros("lm_head.weight", {300, 96}));
  const TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), tests::small_config("granitemoe"), tensors);
  CHECK(open_released_model(folder.path()).skipped_tensors ==
        std::vector<SkippedTensors>{{"lm_head.weight", 1}});
}

TEST_CASE("a tensor that is missing is named as its neighbours are") {
  struct Case {
    const char* family;
    FamilyNaming naming;
    const char* missing;
  };
  for (const auto& [family, naming, missing] : {
           Case{"qwen3_moe", FamilyNaming::released, "model.layers.2.mlp.experts.7.up_proj.weight"},
           Case{"qwen3_moe", FamilyNaming::released, "model.layers.2.mlp.gate.weight"},
           Case{"qwen3_moe", FamilyNaming::released, "model.layers.0.self_attn.q_norm.weight"},
           Case{"qwen3_moe", FamilyNaming::fused, "model.layers.2.mlp.experts.down_proj"},
           Case{"qwen2_moe", FamilyNaming::released, "model.layers.5.mlp.shared_expert.up_proj.weight"},
           Case{"qwen2_moe", FamilyNaming::released, "model.layers.5.self_attn.v_proj.bias"},
           Case{"glm4_moe", FamilyNaming::released, "model.layers.1.mlp.gate.e_score_correction_bias"},
           Case{"glm4_moe", FamilyNaming::released, "model.layers.0.mlp.up_proj.weight"},
           Case{"minimax_m2", FamilyNaming::released,
                "model.layers.1.block_sparse_moe.e_score_correction_bias"},
           Case{"minimax_m2", FamilyNaming::released, "model.layers.1.block_sparse_moe.experts.13.w2.weight"},
           Case{"granitemoe", FamilyNaming::released, "model.layers.3.block_sparse_moe.input_linear.weight"},
           Case{"olmoe", FamilyNaming::released, "lm_head.weight"},
           Case{"gpt_oss", FamilyNaming::released, "model.layers.1.self_attn.sinks"},
           Case{"gpt_oss", FamilyNaming::released, "model.layers.2.mlp.router.bias"},
           Case{"gpt_oss", FamilyNaming::released, "model.layers.3.mlp.experts.gate_up_proj"},
           Case{"gpt_oss", FamilyNaming::released, "model.layers.3.mlp.experts.down_proj_bias"},
           Case{"qwen3_next", FamilyNaming::released, "model.layers.4.linear_attn.A_log"},
           Case{"qwen3_5_moe_text", FamilyNaming::fused, "model.layers.1.mlp.experts.gate_up_proj"},
           // Other families call this norm as Gemma calls the one behind the attention.
           Case{"gemma4_text", FamilyNaming::fused, "model.layers.2.pre_feedforward_layernorm.weight"},
           Case{"gemma4_text", FamilyNaming::fused, "model.layers.5.router.per_expert_scale"},
           Case{"lfm2_moe", FamilyNaming::released, "model.layers.3.conv.conv.weight"},
           Case{"lfm2_moe", FamilyNaming::released, "model.layers.2.feed_forward.expert_bias"},
           Case{"lfm2_moe", FamilyNaming::released, "model.embedding_norm.weight"},
       }) {
    CAPTURE(std::string(missing));
    const auto native = tests::make_family_tensors(described(family), 6);
    auto tensors = tests::to_family_names(family, naming, native);
    REQUIRE(std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == missing; }) == 1);
    const TempDir folder(tests::fast_directory());
    tests::write_family_release(folder.path(), tests::small_config(family), tensors);
    CHECK_ERROR(open_released_model(folder.path()), ErrorKind::malformed,
                "tensor '" + std::string(missing) + "' is missing");
  }
}

TEST_CASE("a kernel of a convolution has an axis between channels and tokens") {
  const auto native = tests::make_family_tensors(described("qwen3_next"), 9);
  auto tensors = tests::to_family_names("qwen3_next", FamilyNaming::released, native);
  const std::string name = "model.layers.1.linear_attn.conv1d.weight";
  const auto kernel = std::ranges::find(tensors, name, &RawTensor::name);
  REQUIRE(kernel != tensors.end());
  CHECK(kernel->shape == Shape{168, 1, 4});
  kernel->shape = {168, 4};
  const TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), tests::small_config("qwen3_next"), tensors);
  CHECK_ERROR(open_released_model(folder.path()), ErrorKind::malformed,
              "tensor '" + name + "': has shape [168, 4], config.json asks for [168, 1, 4]");
}

TEST_CASE("damage in fused experts and in FP8 is named by tensor, and by the expert or row it touches") {
  const auto native = tests::make_family_tensors(described("qwen3_moe"), 8);
  auto tensors = tests::to_family_names("qwen3_moe", FamilyNaming::fused, native);
  tensors.push_back({"codes", DType::f8_e4m3, {3, 5}, std::string(15, '\1')});
  const TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), tests::small_config("qwen3_moe"), tensors);
  const auto map = map_damaged_checkpoint(folder / "model.safetensors",
                                          [](std::uint64_t, std::uint64_t) { return false; });
  REQUIRE(map.has_value());
  const auto touched = [&](const char* name, std::uint64_t element) {
    const auto tensor = std::ranges::find(map->tensors, std::string(name), &CheckpointTensor::name);
    REQUIRE(tensor != map->tensors.end());
    const std::uint64_t at = tensor->offset_bytes + element * size_bytes(tensor->dtype);
    std::uint64_t others = 0;
    for (const CheckpointTensor& other : map->tensors) others += touches(other, at, at + 1) ? 1 : 0;
    CHECK(others == 1);
    return touched_rows(*tensor, at, at + 1);
  };
  // 12 experts of [88, 96].
  const char* fused = "model.layers.2.mlp.experts.gate_up_proj";
  CHECK(touched(fused, 0) == RowSpan{0, 0});
  CHECK(touched(fused, 5 * 88 * 96 + 17) == RowSpan{5, 5});
  CHECK(touched(fused, 12 * 88 * 96 - 1) == RowSpan{11, 11});
  CHECK(touched("codes", 9) == RowSpan{1, 1});
}

/// One FP8 tensor with a scale for each block of 128 x 128; every code and every scale differs from its
/// neighbours.
struct Fp8Tensor {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  Shape shape;

  explicit Fp8Tensor(Shape extents) : shape(std::move(extents)) {
    const std::uint64_t rows = shape[shape.size() - 2];
    const std::uint64_t matrices = shape.size() == 3 ? shape[0] : 1;
    for (std::uint64_t i = 0; i < element_count(shape).value(); ++i)
      codes.push_back(static_cast<std::uint8_t>((i * 37 + i / 251) % 0x7F | (i % 3 == 0 ? 0x80 : 0)));
    for (std::uint64_t i = 0; i < matrices * blocks(rows) * blocks(shape.back()); ++i)
      scales.push_back(0.0071F * static_cast<float>(i + 1));
  }

  static std::uint64_t blocks(std::uint64_t extent) { return (extent + 127) / 128; }

  /// The f32 product, rounded to bf16.
  [[nodiscard]] float value(std::uint64_t matrix, std::uint64_t row, std::uint64_t col) const {
    const std::uint64_t rows = shape[shape.size() - 2];
    const std::uint64_t cols = shape.back();
    const std::uint64_t block = (matrix * blocks(rows) + row / 128) * blocks(cols) + col / 128;
    const float product = f8_e4m3_to_f32(codes[(matrix * rows + row) * cols + col]) * scales[block];
    return bf16_to_f32(f32_to_bf16(product));
  }

  void add_to(std::vector<RawTensor>& tensors, const std::string& name, const std::string& scale_name) const {
    tensors.push_back({name, DType::f8_e4m3, shape, std::string(codes.begin(), codes.end())});
    Shape scale_shape{blocks(shape[shape.size() - 2]), blocks(shape.back())};
    if (shape.size() == 3) scale_shape.insert(scale_shape.begin(), shape[0]);
    std::string bytes(scales.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), scales.data(), bytes.size());
    tensors.push_back({scale_name, DType::f32, scale_shape, bytes});
  }
};

const ReleasedTensor& find_tensor(const ReleasedModel& model, std::string_view name) {
  for (const ReleasedTensor& tensor : model.tensors)
    if (tensor.target.name == name) return tensor;
  FAIL("no such tensor");
  return model.tensors.front();
}

TEST_CASE("FP8 with blocks that are partial at the edges is code x scale, rounded to bf16") {
  std::string config = tests::changed_config("qwen3_moe", "hidden_size", "200");
  config = tests::changed_text(config, "moe_intermediate_size", "140");
  config = tests::changed_text(config, "num_hidden_layers", "1");
  config = tests::changed_text(
      config, "quantization_config",
      R"({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"})");
  const auto native = tests::make_family_tensors(parse_model_config(config, "c").description, 7);
  const TempDir folder(tests::fast_directory());
  {
    auto tensors = tests::to_family_names("qwen3_moe", FamilyNaming::released, native);
    const std::string name = "model.layers.0.mlp.experts.5.up_proj.weight";
    std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == name; });
    const Fp8Tensor fp8({140, 200});
    fp8.add_to(tensors, name, name + "_scale_inv");
    tests::write_family_release(folder.path(), config, tensors);
    const ReleasedModel model = open_released_model(folder.path());
    const TensorView& view = find_tensor(model, "layers.0.feed_forward.experts.5.w3.weight").view;
    CHECK(view.dtype == DType::bf16);
    const auto values = values_of(model, view);
    for (std::uint64_t row = 0; row < 140; ++row)
      for (std::uint64_t col = 0; col < 200; ++col)
        REQUIRE(values[row * 200 + col] == fp8.value(0, row, col));
  }
  auto tensors = tests::to_family_names("qwen3_moe", FamilyNaming::fused, native);
  const std::string name = "model.layers.0.mlp.experts.gate_up_proj";
  std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == name; });
  const Fp8Tensor fp8({12, 280, 200});
  fp8.add_to(tensors, name, name + "_scale_inv");
  tests::write_family_release(folder.path(), config, tensors);
  const ReleasedModel model = open_released_model(folder.path());
  for (const bool up : {false, true}) {
    const auto& tensor = find_tensor(model, up ? "layers.0.feed_forward.experts.9.w3.weight"
                                               : "layers.0.feed_forward.experts.9.w1.weight");
    const auto values = values_of(model, tensor.view);
    // The rows of up begin within a block of rows of the fused tensor.
    for (std::uint64_t row = 0; row < 140; ++row)
      for (std::uint64_t col = 0; col < 200; ++col)
        REQUIRE(values[row * 200 + col] == fp8.value(9, row + (up ? 140 : 0), col));
  }
}

}  // namespace
}  // namespace sluice::format
