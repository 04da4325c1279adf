// MXFP4 in releases: rows as released, from both forms of files, and what is refused.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>

#include "base/file.h"
#include "base/merkle.h"
#include "format/hub/family_config.h"
#include "format/mx/mx_rows.h"
#include "format/released_model.h"
#include "format/tensor_digests.h"
#include "tests/support/check_error.h"
#include "tests/support/family_configs.h"
#include "tests/support/family_release.h"
#include "tests/support/mxfp4_release.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::MxRelease;
using tests::RawTensor;
using tests::TempDir;

const MxRelease& release() {
  static const MxRelease made = tests::make_mx_release(5);
  return made;
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const base::Bytes bytes = base::as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

std::string rows_of(const ReleasedModel& model, const TensorView& view) {
  const auto file = base::File::open_read(model.files[view.file_index]);
  std::vector<std::byte> bytes;
  const TensorSource source(view, file);
  source.read_rows(0, source.rows(), bytes);
  return std::string(base::as_text(bytes));
}

const RawTensor& native_of(const MxRelease& made, const std::string& name) {
  return *std::ranges::find(made.native, name, &RawTensor::name);
}

/// Every tensor has its values, and those in MXFP4 have the released bytes.
void check_model(const ReleasedModel& model, const MxRelease& made) {
  REQUIRE(model.tensors.size() == made.native.size());
  std::size_t kept = 0;
  for (const ReleasedTensor& tensor : model.tensors) {
    CAPTURE(tensor.target.name);
    const bool mxfp4 = made.experts.contains(tensor.target.name);
    CHECK((tensor.view.dtype == DType::mxfp4) == mxfp4);
    if (!mxfp4) continue;
    ++kept;
    const std::string rows = rows_of(model, tensor.view);
    CHECK(rows == made.released_rows(tensor.target.name));
    CHECK(tensor.view.value_bytes() == rows.size());
    // The values are those of the bf16 re-save.
    const auto file = base::File::open_read(model.files[tensor.view.file_index]);
    const TensorSource source(tensor.view, file);
    std::vector<float> values(source.rows() * source.cols());
    source.to_floats(base::as_bytes(rows), 0, values);
    const base::Bytes expected = base::as_bytes(native_of(made, tensor.target.name).bytes);
    for (std::size_t i = 0; i < values.size(); ++i)
      REQUIRE(f32_to_bf16(values[i]) == base::load_le<std::uint16_t>(expected, 2 * i));
  }
  CHECK(kept == made.experts.size());
}

TEST_CASE("MXFP4 rows in ggml's order and in the released one are each other's reverse") {
  std::mt19937_64 random(1);
  std::vector<std::byte> blocks(3 * 17);
  for (std::byte& byte : blocks) byte = static_cast<std::byte>(random());
  std::vector<std::byte> row(blocks.size());
  std::vector<std::byte> again(blocks.size());
  mx_row_from_ggml(blocks, row);
  mx_row_to_ggml(row, again);
  CHECK(again == blocks);
  // Weights 0, 1 and 16 of the second block.
  CHECK(row[3 * 16 + 1] == blocks[17]);
  CHECK(row[16] == ((blocks[18] & std::byte{15}) | (blocks[19] & std::byte{15}) << 4));
  CHECK((row[24] & std::byte{15}) == blocks[18] >> 4);
}

TEST_CASE("MXFP4 codes in the order of tiles and in the released one are each other's reverse") {
  // Weights 0 to 7 of a row.
  CHECK(to_tile_order(0x76543210) == 0x73625140);
  std::mt19937_64 random(2);
  for (int i = 0; i < 1000; ++i) {
    const auto codes = static_cast<std::uint32_t>(random());
    REQUIRE(to_released_order(to_tile_order(codes)) == codes);
  }
}

TEST_CASE("MXFP4 rows are decoded exactly, at every exponent") {
  for (unsigned exponent = 0; exponent < 255; ++exponent) {
    std::vector<std::byte> row = bytes_of("\x10\x32\x54\x76\x98\xBA\xDC\xFE" + std::string(8, '\0'));
    row.push_back(static_cast<std::byte>(exponent));
    std::vector<float> values(32);
    mx_row_to_floats(row, values);
    for (unsigned code = 0; code < 16; ++code) REQUIRE(values[code] == mx4_to_f32(code, exponent));
    const auto found = find_not_finite(row);
    REQUIRE(found.has_value() == (exponent > 252));
    if (exponent == 253) CHECK(*found == 6);  // 4 x 2^126
    if (exponent == 254) CHECK(*found == 4);  // 2 x 2^127
  }
}

TEST_CASE("gpt-oss in MXFP4 has the released bytes from the hub's files and from GGUF, and equal digests") {
  const TempDir folder(tests::fast_directory());
  tests::write_mx_release(folder.path(), release());
  const ReleasedModel hub = open_released_model(folder.path());
  check_model(hub, release());
  CHECK(hub.layout == "fused");
  tests::write_mx_gguf(folder / "m.gguf", release());
  const ReleasedModel gguf = open_released_model(folder / "m.gguf");
  check_model(gguf, release());
  CHECK(gguf.description == hub.description);
  // Nothing of it was rounded, so it is not called lossy.
  CHECK(gguf.quantized_types.empty());

  base::NoProgress progress;
  const auto of_hub = digest_tensors(hub, 2, progress, {});
  const auto of_gguf = digest_tensors(gguf, 2, progress, {});
  REQUIRE(of_hub.size() == of_gguf.size());
  for (std::size_t i = 0; i < of_hub.size(); ++i) {
    if (of_hub[i].dtype != DType::mxfp4) continue;  // the others are f32 in the GGUF file
    CAPTURE(of_hub[i].name);
    CHECK(of_hub[i].digest == of_gguf[i].digest);
    CHECK(of_hub[i].digest == base::merkle_digest(base::as_bytes(release().released_rows(of_hub[i].name))));
  }
}

TEST_CASE("blocks of any rows, and from a shard of their own") {
  const TempDir folder(tests::fast_directory());
  constexpr const char* kFirst = "model-00001-of-00002.safetensors";
  constexpr const char* kSecond = "model-00002-of-00002.safetensors";
  std::vector<RawTensor> first;
  std::vector<RawTensor> second;
  std::vector<std::pair<std::string, std::string>> files;
  for (RawTensor& tensor : release().hub_tensors()) {
    const bool scales = tensor.name.ends_with("_scales");
    files.emplace_back(tensor.name, scales ? kSecond : kFirst);
    (scales ? second : first).push_back(std::move(tensor));
  }
  tests::write_mx_release(folder.path(), release());
  std::filesystem::remove(folder / "model.safetensors");
  const auto write = [&](const char* name, const std::string& text) {
    base::write_file(folder / name, base::as_bytes(text));
  };
  write(kFirst, tests::make_safetensors(first));
  write(kSecond, tests::make_safetensors(second));
  write("model.safetensors.index.json", tests::make_weight_map(files));
  const ReleasedModel model = open_released_model(folder.path());
  check_model(model, release());
  const TensorView& view =
      std::ranges::find(model.tensors, "layers.2.feed_forward.experts.3.w3.weight", [](const auto& t) {
        return t.target.name;
      })->view;
  const auto file = base::File::open_read(model.files[view.file_index]);
  const TensorSource source(view, file);
  std::vector<std::byte> rows;
  source.read_rows(17, 11, rows);
  CHECK(base::as_text(rows) == rows_of(model, view).substr(17 * source.row_bytes(), 11 * source.row_bytes()));
}

using Edit = std::function<void(std::vector<RawTensor>&)>;

RawTensor& tensor_of(std::vector<RawTensor>& tensors, std::string_view name) {
  const auto found = std::ranges::find(tensors, name, &RawTensor::name);
  REQUIRE(found != tensors.end());
  return *found;
}

TEST_CASE("pairs of blocks and scales that do not fit are refused by name") {
  const std::string gate_up = "model.layers.1.mlp.experts.gate_up_proj";
  const std::string down = "model.layers.1.mlp.experts.down_proj";
  struct Case {
    const char* what;
    Edit edit;
    std::string cause;
  };
  const auto remove = [](const std::string& name) {
    return [name](std::vector<RawTensor>& tensors) {
      REQUIRE(std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == name; }) == 1);
    };
  };
  for (const Case& one : {
           Case{"missing scales", remove(gate_up + "_scales"),
                "model.safetensors: tensor '" + gate_up + "_blocks': has no scales: tensor '" + gate_up +
                    "_scales' is missing"},
           Case{"scales without blocks", remove(down + "_blocks"),
                "model.safetensors: tensor '" + down + "_blocks' is missing"},
           Case{"blocks of another width",
                [&](std::vector<RawTensor>& tensors) {
                  tensor_of(tensors, gate_up + "_blocks").shape = {7, 128, 6, 8};
                },
                "tensor '" + gate_up +
                    "_blocks': has shape [7, 128, 6, 8], config.json asks for "
                    "[7, 128, 3, 16]"},
           Case{"rows that are not pairs of gate and up",
                [&](std::vector<RawTensor>& tensors) {
                  RawTensor& blocks = tensor_of(tensors, gate_up + "_blocks");
                  blocks.shape = {7, 127, 3, 16};
                  blocks.bytes.resize(7 * 127 * 3 * 16);
                },
                "has shape [7, 127, 3, 16], config.json asks for [7, 128, 3, 16]"},
           Case{"scales of another number",
                [&](std::vector<RawTensor>& tensors) {
                  tensor_of(tensors, down + "_scales").shape = {7, 48, 4};
                },
                "tensor '" + down +
                    "_scales': has shape [7, 48, 4], expected [7, 96, 2], one scale for each "
                    "block of '" +
                    down + "_blocks'"},
           Case{"blocks of floats",
                [&](std::vector<RawTensor>& tensors) {
                  RawTensor& blocks = tensor_of(tensors, gate_up + "_blocks");
                  blocks.dtype = DType::bf16;
                  blocks.bytes += blocks.bytes;
                },
                "tensor '" + gate_up + "_blocks': has dtype bf16, expected u8"},
           Case{"a second form of the same weights",
                [&](std::vector<RawTensor>& tensors) {
                  tensors.push_back({gate_up, DType::bf16, {2}, std::string(4, '\0')});
                },
                "tensor '" + gate_up + "' [2] is not part of the model that config.json describes"},
       }) {
    CAPTURE(one.what);
    const TempDir folder(tests::fast_directory());
    auto tensors = release().hub_tensors();
    one.edit(tensors);
    tests::write_family_release(folder.path(), release().config, tensors);
    CHECK_ERROR(open_released_model(folder.path()), ErrorKind::malformed, one.cause);
  }
}

TEST_CASE("inputs that are no multiple of 32 cannot be in MXFP4") {
  const TempDir folder(tests::fast_directory());
  // An intermediate_size of 40 has two blocks of 32 inputs in down_proj, as if they were padded.
  const std::string config = tests::changed_config("gpt_oss", "intermediate_size", "40");
  auto tensors =
      tests::to_family_names("gpt_oss", tests::FamilyNaming::released,
                             tests::make_family_tensors(parse_model_config(config, "c").description, 3));
  for (RawTensor& tensor : tensors) {
    if (!tensor.name.ends_with("experts.down_proj")) continue;
    tensor = {tensor.name + "_blocks", DType::u8, {7, 96, 2, 16}, std::string(7 * 96 * 2 * 16, '\0')};
  }
  tests::write_family_release(folder.path(), config, tensors);
  CHECK_ERROR(open_released_model(folder.path()), ErrorKind::malformed,
              "tensor 'model.layers.0.mlp.experts.down_proj_blocks': is MXFP4, which needs a multiple of 32 "
              "inputs, but config.json asks for 40");
}

TEST_CASE("exponents that give NaN or infinity are refused with their place") {
  const auto read_all = [](const ReleasedModel& model) {
    for (const ReleasedTensor& tensor : model.tensors) static_cast<void>(rows_of(model, tensor.view));
  };
  const TempDir folder(tests::fast_directory());
  const auto write_with = [&](const char* name, std::size_t at, char exponent, char code) {
    auto tensors = release().hub_tensors();
    tensor_of(tensors, std::string(name) + "_scales").bytes[at] = exponent;
    tensor_of(tensors, std::string(name) + "_blocks").bytes[at * 16] = code;
    tests::write_family_release(folder.path(), release().config, tensors);
    return open_released_model(folder.path());
  };
  // Expert 2, row 31 of gate and up in turns, block 1.
  const auto at = (2 * 128 + 31) * 3 + 1;
  const std::string place = "_scales': has the exponent ";
  CHECK_ERROR(read_all(write_with("model.layers.4.mlp.experts.gate_up_proj", at, '\xFF', 0)),
              ErrorKind::malformed,
              "model.safetensors: tensor 'model.layers.4.mlp.experts.gate_up_proj_scales': has the exponent "
              "255, which is NaN, at [2, 31, 1]");
  CHECK_ERROR(read_all(write_with("model.layers.4.mlp.experts.down_proj", 5, '\xFE', 0x70)),
              ErrorKind::malformed,
              "tensor 'model.layers.4.mlp.experts.down_proj_scales': has the exponent 254 with a code whose "
              "value is beyond bf16, at [0, 2, 1]");
  MxRelease damaged = release();
  damaged.experts.at("layers.3.feed_forward.experts.6.w2.weight").exponents[3] = 255;
  tests::write_mx_gguf(folder / "m.gguf", damaged);
  CHECK_ERROR(read_all(open_released_model(folder / "m.gguf")), ErrorKind::malformed,
              "m.gguf: tensor 'blk.3.ffn_down_exps.weight': has the exponent 255, which is NaN, at [1, 32]");
}

TEST_CASE("gpt-oss under OpenAI's own names is refused with the folder that can be read") {
  const TempDir folder(tests::fast_directory());
  tests::write_family_release(folder.path(), R"({"num_hidden_layers": 24, "num_experts": 32})",
                              {{"block.0.attn.qkv.weight", DType::bf16, {2}, std::string(4, '\0')},
                               {"embedding.weight", DType::bf16, {2}, std::string(4, '\0')}});
  CHECK_ERROR(
      open_released_model(folder.path()), ErrorKind::malformed,
      "model.safetensors: holds gpt-oss under OpenAI's own names (block.0.attn.qkv.weight), which are "
      "not supported; the folder above \"original\" has the same weights");
}

TEST_CASE("a file that ends within blocks or scales is refused") {
  const TempDir folder(tests::fast_directory());
  tests::write_mx_release(folder.path(), release());
  const std::string whole = base::read_text_file(folder / "model.safetensors", 64u << 20);
  for (const std::size_t missing : {1u, 1000u, 100000u}) {
    base::write_file(folder / "model.safetensors", base::as_bytes(whole.substr(0, whole.size() - missing)));
    CHECK_THROWS_AS(open_released_model(folder.path()), base::Error);
  }
}

}  // namespace
}  // namespace sluice::format
