// Releases with latent attention: their tensors under the names of transformers, of Mistral and of llama.cpp.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "format/gguf/gguf_split_heads.h"
#include "format/hub/family_config.h"
#include "format/released_model.h"
#include "tests/support/check_error.h"
#include "tests/support/family_configs.h"
#include "tests/support/family_release.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;

ModelDescription parse(const std::string& text) { return parse_model_config(text, "c").description; }

const LatentAttention& attention(const ModelDescription& model) {
  return std::get<LatentAttention>(model.layer(0).mixer);
}

TEST_CASE(
    "tensors of latent attention are found under the names of transformers, and the last layer left out") {
  for (const char* family : tests::latent_families()) {
    const std::string config = tests::small_config(family);
    const ModelConfig parsed = parse_model_config(config, "c");
    const auto native = tests::make_family_tensors(parsed.description, 11);
    for (const tests::FamilyNaming naming : tests::kFamilyNamings) {
      CAPTURE(std::string(family));
      auto tensors = tests::to_family_names(family, naming, native);
      const bool predicts = parsed.prediction_layers > 0;
      if (predicts)
        tensors.push_back(
            {"model.layers.6.self_attn.q_a_proj.weight", DType::bf16, {2, 3}, std::string(12, '\0')});
      const tests::TempDir folder(tests::fast_directory());
      tests::write_family_release(folder.path(), config, tensors);
      const ReleasedModel model = open_released_model(folder.path());
      REQUIRE(model.tensors.size() == native.size());
      for (std::size_t i = 0; i < native.size(); ++i) {
        CAPTURE(native[i].name);
        CHECK(model.tensors[i].target.name == native[i].name);
        const TensorView& view = model.tensors[i].view;
        const auto file = base::File::open_read(model.files[view.file_index]);
        const TensorSource source(view, file);
        std::vector<std::byte> bytes;
        source.read_rows(0, source.rows(), bytes);
        CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == native[i].bytes);
      }
      CHECK(model.skipped_tensors.size() == (predicts ? 1 : 0));
    }
  }
}

std::string bytes_of(const ReleasedModel& model, const TensorView& view, std::uint64_t first,
                     std::uint64_t count) {
  const auto file = base::File::open_read(model.files[view.file_index]);
  const TensorSource source(view, file);
  std::vector<std::byte> bytes;
  source.read_rows(first, count, bytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// bf16 values as f32, which the GGUF files of these tests have.
std::string widened(const tests::RawTensor& tensor) {
  if (tensor.dtype == DType::f32) return tensor.bytes;
  const auto source = base::as_bytes(tensor.bytes);
  std::string out;
  for (std::size_t at = 0; at < source.size(); at += 2) {
    const float value = bf16_to_f32(base::load_le<std::uint16_t>(source, at));
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return out;
}

TEST_CASE("GGUF files with keys and values of all heads in one tensor, or in two") {
  for (const char* family : tests::latent_families()) {
    ModelDescription expected = parse(tests::small_config(family));
    const auto native = tests::make_family_tensors(expected, 13);
    for (LayerDescription& layer : expected.layer_kinds) {
      auto& mixer = std::get<LatentAttention>(layer.mixer);
      mixer.latent_norm_epsilon.reset();  // llama.cpp has the model's
      mixer.scale.reset();
    }
    for (const auto heads : {tests::LatentHeads::together, tests::LatentHeads::split}) {
      CAPTURE(std::string(family));
      CAPTURE(static_cast<int>(heads));
      const tests::TempDir folder(tests::fast_directory());
      tests::write_family_gguf(folder / "m.gguf", family, native, heads);
      const ReleasedModel model = open_released_model(folder / "m.gguf");
      const auto scale = attention(parse(tests::small_config(family))).scale;
      ModelDescription found = model.description;
      for (LayerDescription& layer : found.layer_kinds) {
        auto& mixer = std::get<LatentAttention>(layer.mixer);
        CHECK(mixer.scale.has_value() == scale.has_value());
        if (scale) CHECK(*mixer.scale == doctest::Approx(*scale));
        mixer.scale.reset();
      }
      CHECK(found == expected);
      REQUIRE(model.tensors.size() == native.size());
      for (std::size_t i = 0; i < native.size(); ++i) {
        CAPTURE(native[i].name);
        const TensorView& view = model.tensors[i].view;
        const std::string all = widened(native[i]);
        CHECK(bytes_of(model, view, 0, view.rows()) == all);
        // A block that begins and ends within heads.
        if (model.tensors[i].target.role != TensorRole::latent_key_value) continue;
        CHECK(bytes_of(model, view, 7, 101) == all.substr(7 * view.cols() * 4, 101 * view.cols() * 4));
      }
    }
  }
}

TEST_CASE("keys and values of all heads in blocks of Q8_0, from any row on") {
  // 3 heads of 32 plain and 5 value dims, a latent of 64; blocks of 32 codes under the scale 1.
  constexpr int kHeads = 3, kPlain = 32, kValue = 5, kRank = 64;
  const auto code = [](int row, int col) {
    return static_cast<std::int8_t>((row * 31 + col * 7) % 255 - 127);
  };
  const auto blocks = [](int rows, int cols, const auto& at) {
    std::string bytes;
    for (int row = 0; row < rows; ++row)
      for (int col = 0; col < cols; ++col) {
        if (col % 32 == 0) bytes += std::string("\x00\x3C", 2);
        bytes += static_cast<char>(at(row, col));
      }
    return bytes;
  };
  // Row `head * 37 + i` of the matrix: column i of the head's keys, or its value i - 32.
  const std::string keys = blocks(kHeads * kRank, kPlain, [&](int row, int col) {
    return code(row / kRank * (kPlain + kValue) + col, row % kRank);
  });
  const std::string values = blocks(kHeads * kValue, kRank, [&](int row, int col) {
    return code(row / kValue * (kPlain + kValue) + kPlain + row % kValue, col);
  });
  const tests::TempDir folder(tests::fast_directory());
  base::write_file(folder / "k", base::as_bytes(keys));
  base::write_file(folder / "v", base::as_bytes(values));
  const auto index = [&](const char* name, DType dtype, const Shape& shape, std::size_t file) {
    return CheckpointTensor{.name = name, .dtype = dtype, .shape = shape, .strides = {}, .file_index = file};
  };
  CheckpointIndex checkpoint;
  checkpoint.kind = CheckpointKind::gguf;
  checkpoint.files = {folder / "k", folder / "v"};
  checkpoint.tensors = {index("blk.0.attn_k_b.weight", DType::q8_0, {kHeads, kRank, kPlain}, 0),
                        index("blk.0.attn_v_b.weight", DType::q8_0, {kHeads, kValue, kRank}, 1)};
  LatentAttention mixer;
  mixer.heads = kHeads;
  mixer.latent_rank = kRank;
  mixer.plain_dims = kPlain;
  mixer.value_dims = kValue;
  ModelTensor target;
  target.shape = {kHeads * (kPlain + kValue), kRank};
  const auto tensors = find_split_heads(checkpoint, 0);
  REQUIRE(tensors.has_value());
  const TensorView view = split_heads_view(checkpoint, *tensors, target, mixer);
  const auto file = base::File::open_read(checkpoint.files[0]);
  const TensorSource source(view, file);
  for (const int first : {0, 30, 36, 37, 70}) {
    std::vector<std::byte> bytes;
    source.read_rows(static_cast<std::uint64_t>(first), 41, bytes);
    for (int row = 0; row < 41; ++row)
      for (int col = 0; col < kRank; ++col)
        REQUIRE(base::load_le<float>(bytes, 4 * static_cast<std::size_t>(row * kRank + col)) ==
                static_cast<float>(code(first + row, col)));
  }
  // Shapes and types that do not go together.
  const auto refused = [&](const CheckpointTensor& values_tensor, const char* cause) {
    checkpoint.tensors[1] = values_tensor;
    const auto found = find_split_heads(checkpoint, 0);
    CHECK_ERROR(split_heads_view(checkpoint, *found, target, mixer), ErrorKind::malformed, cause);
  };
  refused(index("blk.0.attn_v_b.weight", DType::q8_0, {kHeads, kRank, kValue}, 1),
          "tensor 'blk.0.attn_v_b.weight': has shape [3, 64, 5], its metadata asks for [3, 5, 64]");
  refused(index("blk.0.attn_v_b.weight", DType::bf16, {kHeads, kValue, kRank}, 1),
          "has values of dtype bf16, but 'blk.0.attn_k_b.weight' of f32");
  refused(index("blk.0.attn_v_b.weight", DType::i32, {kHeads, kValue, kRank}, 1),
          "has dtype i32, expected floats");
  checkpoint.tensors.pop_back();
  CHECK_ERROR(find_split_heads(checkpoint, 0), ErrorKind::malformed,
              "tensor 'blk.0.attn_k_b.weight': stands alone: 'blk.0.attn_v_b.weight' is missing");
}

TEST_CASE("routers and experts beside the feed-forward in Mistral's own names, with one scale a tensor") {
  const std::string config = tests::small_config("mistral");
  const auto native = tests::make_family_tensors(parse(config), 12);
  std::vector<tests::RawTensor> released;
  for (tests::RawTensor tensor : native) {
    for (const auto& [from, to] :
         {std::pair("feed_forward.gate.", "gate."), std::pair("feed_forward.experts.", "experts."),
          std::pair("feed_forward.shared.", "shared_experts.")}) {
      if (const auto at = tensor.name.find(from); at != std::string::npos)
        tensor.name.replace(at, std::string_view(from).size(), to);
    }
    released.push_back(std::move(tensor));
  }
  const std::string fp8 = "layers.2.attention.wkv_a_with_mqa";
  const auto coded = std::ranges::find(released, fp8 + ".weight", &tests::RawTensor::name);
  REQUIRE(coded != released.end());
  const std::size_t weights = coded->bytes.size() / 2;
  coded->dtype = DType::f8_e4m3;
  coded->bytes.clear();
  for (std::size_t i = 0; i < weights; ++i) coded->bytes.push_back(static_cast<char>(i % 0x7F));
  const float scale = 0.0123F;
  const std::string scale_bytes(reinterpret_cast<const char*>(&scale), sizeof(scale));
  released.push_back({fp8 + ".qscale_weight", DType::f32, {}, scale_bytes});
  released.push_back({fp8 + ".qscale_act", DType::f32, {}, scale_bytes});
  released.push_back({"vision_encoder.ln_pre.weight", DType::bf16, {1}, std::string(2, '\0')});
  const tests::TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), config, released);
  std::filesystem::rename(folder / "config.json", folder / "params.json");
  const ReleasedModel model = open_released_model(folder.path());
  REQUIRE(model.tensors.size() == native.size());
  CHECK(model.layout == "native");
  CHECK(model.skipped_tensors == std::vector<SkippedTensors>{{"vision_encoder.", 1}});
  for (std::size_t i = 0; i < native.size(); ++i) {
    CAPTURE(native[i].name);
    const TensorView& view = model.tensors[i].view;
    const auto file = base::File::open_read(model.files[view.file_index]);
    const TensorSource source(view, file);
    std::vector<std::byte> bytes;
    source.read_rows(0, source.rows(), bytes);
    if (native[i].name != fp8 + ".weight") {
      CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == native[i].bytes);
      continue;
    }
    for (std::size_t at = 0; at < weights; ++at)
      REQUIRE(base::load_le<std::uint16_t>(bytes, 2 * at) ==
              f32_to_bf16(f8_e4m3_to_f32(static_cast<std::uint8_t>(at % 0x7F)) * scale));
  }
}

}  // namespace
}  // namespace sluice::format
