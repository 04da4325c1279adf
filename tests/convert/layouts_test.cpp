// The same model gives the same container from every layout.

#include "tests/support/layouts.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "base/file.h"
#include "convert/convert.h"
#include "format/container_reader.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using base::ErrorKind;
using convert::Quant;
using format::DType;
using tests::Files;
using tests::Naming;
using tests::RawTensor;
using tests::TempDir;
using tests::TinyTensor;

namespace {

convert::Result run(const std::filesystem::path& input, const std::filesystem::path& output, Quant quant) {
  base::NoProgress progress;
  convert::Request request;
  request.input = input;
  request.output = output;
  request.quant = quant;
  request.thread_count = 2;
  return convert::convert(request, progress, {});
}

/// Sizes that are not multiples of tiles and blocks, and all different.
format::MistralParams uneven_params() {
  auto params = tests::tiny_params();
  params.dim = 96;
  params.hidden_dim = 100;
  params.num_experts = 3;
  return params;
}

format::MistralParams dense_params() {
  auto params = uneven_params();
  params.num_experts = params.num_experts_per_tok = 0;
  params.sliding_window = 4096;
  params.rope_theta = 1e4;
  return params;
}

std::map<std::string, base::Sha256> source_digests(const std::filesystem::path& container) {
  std::map<std::string, base::Sha256> digests;
  const auto reader = format::ContainerReader::open(container);
  for (const auto& tensor : reader.tensors()) digests[tensor.name] = tensor.source_digest;
  return digests;
}

}  // namespace

TEST_CASE("a model gives the same weights in every layout, and the same source digests") {
  for (const auto& params : {uneven_params(), dense_params()}) {
    const auto tensors = tests::make_tiny_tensors(params, 11);
    const TempDir plain;
    tests::write_tiny_release(plain.path(), params, tensors);
    const auto bf16 = run(plain.path(), plain / "m.sluice", Quant::bf16);
    const auto digests = source_digests(plain / "m.sluice");
    const auto q4 = run(plain.path(), plain / "q4.sluice", Quant::q4);
    for (const Naming naming : tests::kNamings) {
      const bool dense = params.num_experts == 0;
      if (dense && (naming == Naming::stacked || naming == Naming::fused)) continue;
      for (const Files files : tests::kFiles) {
        CAPTURE(static_cast<int>(naming));
        CAPTURE(static_cast<int>(files));
        CAPTURE(dense);
        const TempDir folder;
        tests::write_layout(folder.path(), naming, files, params, tensors);
        const auto found = run(folder.path(), folder / "m.sluice", Quant::bf16);
        CHECK(found.tensors_sha256 == bf16.tensors_sha256);
        CHECK(found.input_bytes == bf16.input_bytes);
        CHECK(source_digests(folder / "m.sluice") == digests);
        const auto reader = format::ContainerReader::open(folder / "m.sluice");
        CHECK(reader.description() == format::describe(params));
        if (files == Files::safetensors)
          CHECK(run(folder.path(), folder / "q4", Quant::q4).tensors_sha256 == q4.tensors_sha256);
      }
    }
  }
}

TEST_CASE("f32 of bf16 values gives the same weights in every layout") {
  const auto params = uneven_params();
  const auto tensors = tests::make_tiny_tensors(params, 12);
  const TempDir plain;
  tests::write_tiny_release(plain.path(), params, tensors);
  const auto bf16 = run(plain.path(), plain / "m", Quant::bf16);
  const auto q4 = run(plain.path(), plain / "m", Quant::q4);
  std::map<std::string, base::Sha256> digests;
  for (const Naming naming : tests::kNamings) {
    CAPTURE(static_cast<int>(naming));
    const TempDir folder;
    tests::write_layout(folder.path(), naming, Files::safetensors_shards, params, tensors, DType::f32);
    CHECK(run(folder.path(), folder / "q4", Quant::q4).tensors_sha256 == q4.tensors_sha256);
    CHECK(run(folder.path(), folder / "m", Quant::bf16).tensors_sha256 == bf16.tensors_sha256);
    const auto found = source_digests(folder / "m");
    if (digests.empty()) digests = found;
    CHECK(found == digests);
  }
}

TEST_CASE("one shard stands for all of them") {
  const auto params = uneven_params();
  const auto tensors = tests::make_tiny_tensors(params, 13);
  const TempDir plain;
  tests::write_tiny_release(plain.path(), params, tensors);
  const auto expected = run(plain.path(), plain / "m", Quant::q8).tensors_sha256;
  for (const Files files : {Files::safetensors_shards, Files::pth_shards}) {
    const TempDir folder;
    tests::write_layout(folder.path(), Naming::native, files, params, tensors);
    const auto shard = folder / (files == Files::pth_shards ? "consolidated.01.pth"
                                                            : "consolidated-00002-of-00003.safetensors");
    CHECK(run(shard, folder / "m", Quant::q8).tensors_sha256 == expected);
  }
}

namespace {

/// The nearest FP8 E4M3 code, found by trying all.
std::uint8_t to_e4m3(float value) {
  std::uint8_t best = 0;
  for (unsigned code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    const float found = format::f8_e4m3_to_f32(static_cast<std::uint8_t>(code));
    if (std::fabs(found - value) < std::fabs(format::f8_e4m3_to_f32(best) - value))
      best = static_cast<std::uint8_t>(code);
  }
  return best;
}

enum class Scales : std::uint8_t { one, per_row, per_row_column, per_block };

/// Codes and scales of the matrices of attention and experts, as FP8 releases have them.
std::vector<RawTensor> to_fp8(const std::vector<RawTensor>& tensors, Scales scales, const std::string& suffix,
                              const std::string& input_suffix) {
  std::vector<RawTensor> out;
  for (const RawTensor& tensor : tensors) {
    const bool coded = tensor.shape.size() >= 2 && tensor.name.find("embed") == std::string::npos &&
                       tensor.name.find("gate.") == std::string::npos &&
                       tensor.name.find("lm_head") == std::string::npos && tensor.name != "output.weight";
    if (!coded) {
      out.push_back(tensor);
      continue;
    }
    const std::size_t axes = tensor.shape.size();
    const std::uint64_t rows = tensor.shape[axes - 2];
    const std::uint64_t cols = tensor.shape[axes - 1];
    const std::uint64_t matrices = axes == 3 ? tensor.shape[0] : 1;
    const std::uint64_t row_block = scales == Scales::one ? rows : scales == Scales::per_block ? 128 : 1;
    const std::uint64_t col_block = scales == Scales::per_block ? 128 : cols;
    RawTensor codes{tensor.name, DType::f8_e4m3, tensor.shape, std::string(matrices * rows * cols, '\0')};
    std::string values;
    for (std::uint64_t matrix = 0; matrix < matrices; ++matrix) {
      for (std::uint64_t row = 0; row < rows; row += row_block) {
        for (std::uint64_t col = 0; col < cols; col += col_block) {
          const auto each = [&](auto&& visit) {
            for (std::uint64_t r = row; r < std::min(row + row_block, rows); ++r) {
              for (std::uint64_t c = col; c < std::min(col + col_block, cols); ++c) {
                const std::size_t at = (matrix * rows + r) * cols + c;
                visit(at, format::bf16_to_f32(
                              base::load_le<std::uint16_t>(base::as_bytes(tensor.bytes), at * 2)));
              }
            }
          };
          float largest = 0;
          each([&](std::size_t, float value) { largest = std::max(largest, std::fabs(value)); });
          const float scale = largest / 448;
          each([&](std::size_t at, float value) {
            codes.bytes[at] = static_cast<char>(to_e4m3(value / scale));
          });
          values.append(reinterpret_cast<const char*>(&scale), sizeof(scale));
        }
      }
    }
    format::Shape shape;
    if (scales == Scales::per_row) shape = {rows};
    if (scales == Scales::per_row_column) shape = {rows, 1};
    if (scales == Scales::per_block) shape = {(rows + 127) / 128, (cols + 127) / 128};
    if (axes == 3 && scales == Scales::one) shape = {1, 1};
    if (axes == 3) shape.insert(shape.begin(), matrices);
    // The scale of layers.0.attention.wq.weight is layers.0.attention.wq.weight_scale; that of
    // experts.down_proj is experts.down_proj_scale_inv.
    const bool parameter = !tensor.name.ends_with(".weight");
    const std::string stem = parameter ? tensor.name : tensor.name.substr(0, tensor.name.size() - 6);
    const auto beside = [&](const std::string& name) {
      return stem + (!parameter ? name : name == suffix ? "_scale_inv" : "_activation_scale");
    };
    out.push_back(std::move(codes));
    out.push_back({beside(suffix), DType::f32, shape, values});
    if (!input_suffix.empty())
      out.push_back({beside(input_suffix), DType::f32, {}, std::string("\0\0\x80\x3f", 4)});
  }
  return out;
}

double relative_error(const std::filesystem::path& container, const std::vector<TinyTensor>& tensors) {
  std::map<std::string, const TinyTensor*> by_name;
  for (const TinyTensor& tensor : tensors) by_name[tensor.name] = &tensor;
  const auto reader = format::ContainerReader::open(container);
  double worst = 0;
  for (const auto& tensor : reader.tensors()) {
    if (!format::is_tiled(tensor.storage)) continue;
    double error = 0;
    double squares = 0;
    const auto& values = by_name.at(tensor.name)->bf16;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint64_t cols = tensor.shape[1];
      const auto found = static_cast<double>(
          format::weight_at(tensor.tile_layout(), reader.bytes(tensor), i / cols, i % cols));
      const auto expected = static_cast<double>(format::bf16_to_f32(values[i]));
      error += (found - expected) * (found - expected);
      squares += expected * expected;
    }
    worst = std::max(worst, std::sqrt(error / squares));
  }
  return worst;
}

}  // namespace

TEST_CASE("FP8 with scales of every published form is read, and stays within its own error") {
  auto params = uneven_params();
  params.hidden_dim = 200;  // more than one block of 128
  params.dim = 144;
  const auto tensors = tests::make_tiny_tensors(params, 14);
  struct Dialect {
    Naming naming;
    Scales scales;
    const char* suffix;
    const char* input_suffix;
  };
  for (const auto& [naming, scales, suffix, input_suffix] : {
           Dialect{Naming::native, Scales::one, "qscale_weight", "qscale_act"},
           Dialect{Naming::hub, Scales::one, "weight_scale", "input_scale"},
           Dialect{Naming::hub, Scales::per_row, "weight_scale", ""},
           Dialect{Naming::hub, Scales::per_row_column, "weight_scale", ""},
           Dialect{Naming::hub, Scales::per_block, "weight_scale_inv", ""},
           Dialect{Naming::hub, Scales::one, "weight_scale_inv", "activation_scale"},
           Dialect{Naming::fused, Scales::one, "weight_scale_inv", "activation_scale"},
           Dialect{Naming::fused, Scales::per_block, "weight_scale_inv", ""},
       }) {
    CAPTURE(std::string(suffix));
    CAPTURE(static_cast<int>(scales));
    const TempDir folder;
    tests::write_layout(folder.path(), naming, Files::safetensors, params, tensors);
    tests::write_tensors(folder.path(), naming, Files::safetensors_shards,
                         to_fp8(to_layout(naming, params, tensors), scales, suffix, input_suffix));
    std::filesystem::remove(folder /
                            (naming == Naming::native ? "consolidated.safetensors" : "model.safetensors"));
    static_cast<void>(run(folder.path(), folder / "m", Quant::bf16));
    // E4M3 has three bits of fraction, so an error is at most 1/16 of the value. Uniformly distributed errors
    // give 1/16 / sqrt(3), and less where the step is a smaller part of the value.
    const double error = relative_error(folder / "m", tensors);
    CHECK(error < 0.032);
    CHECK(error > 0.015);
  }
}

TEST_CASE("the same FP8 weights under another form of scales have the same digests") {
  const auto params = uneven_params();
  const auto tensors = tests::make_tiny_tensors(params, 19);
  auto one = to_fp8(to_layout(Naming::native, params, tensors), Scales::one, "qscale_weight", "qscale_act");
  const TempDir folder;
  tests::write_layout(folder.path(), Naming::native, Files::safetensors, params, tensors);
  tests::write_tensors(folder.path(), Naming::native, Files::safetensors, one);
  const auto tensors_sha256 = run(folder.path(), folder / "m.sluice", Quant::q8).tensors_sha256;
  const auto digests = source_digests(folder / "m.sluice");
  for (RawTensor& tensor : one) {
    if (!tensor.name.ends_with("qscale_weight")) continue;
    const RawTensor& weights = *(&tensor - 1);
    tensor.name = weights.name + "_scale";
    tensor.shape = {weights.shape[0], 1};
    const std::string scale = tensor.bytes;
    for (std::uint64_t row = 1; row < weights.shape[0]; ++row) tensor.bytes += scale;
  }
  std::erase_if(one, [](const RawTensor& tensor) { return tensor.name.ends_with("qscale_act"); });
  tests::write_tensors(folder.path(), Naming::native, Files::safetensors, one);
  CHECK(run(folder.path(), folder / "m.sluice", Quant::q8).tensors_sha256 == tensors_sha256);
  CHECK(source_digests(folder / "m.sluice") == digests);
}

TEST_CASE("FP8 that cannot be decoded is refused by its tensor") {
  const auto params = uneven_params();
  const auto tensors = tests::make_tiny_tensors(params, 15);
  const auto whole = to_fp8(to_layout(Naming::native, params, tensors), Scales::one, "qscale_weight", "");
  struct Case {
    const char* cause;
    void (*spoil)(std::vector<RawTensor>&);
  };
  const auto find = [](std::vector<RawTensor>& all, std::string_view name) -> RawTensor& {
    for (RawTensor& tensor : all)
      if (tensor.name == name) return tensor;
    throw std::logic_error("no such tensor");
  };
  static const auto find_tensor = find;
  const Case cases[] = {
      {"tensor 'layers.1.attention.wq.weight': has NaN at [2, 3]",
       [](auto& all) { find_tensor(all, "layers.1.attention.wq.weight").bytes[2 * 96 + 3] = '\x7f'; }},
      {"tensor 'layers.1.attention.wq.weight': has NaN at [2, 3]",
       [](auto& all) { find_tensor(all, "layers.1.attention.wq.weight").bytes[2 * 96 + 3] = '\xff'; }},
      {"tensor 'layers.0.attention.wk.weight': has dtype f8_e4m3 and no scale: "
       "'layers.0.attention.wk.qscale_weight' is missing",
       [](auto& all) {
         std::erase_if(all, [](auto& t) { return t.name == "layers.0.attention.wk.qscale_weight"; });
       }},
      {"tensor 'layers.0.attention.wk.weight': has two scales, 'layers.0.attention.wk.qscale_weight' and "
       "'layers.0.attention.wk.weight_scale'",
       [](auto& all) {
         all.push_back({"layers.0.attention.wk.weight_scale", DType::f32, {}, std::string(4, '\0')});
       }},
      {"tensor 'layers.0.attention.wk.qscale_weight': has shape [2], expected one scale, one for each of 32 "
       "rows "
       "or [1, 1], one for each block of 128 x 128",
       [](auto& all) {
         auto& scale = find_tensor(all, "layers.0.attention.wk.qscale_weight");
         scale.shape = {2};
         scale.bytes += scale.bytes;
       }},
      {"tensor 'layers.0.attention.wk.qscale_weight': has the scale inf",
       [](auto& all) {
         find_tensor(all, "layers.0.attention.wk.qscale_weight").bytes = std::string("\0\0\x80\x7f", 4);
       }},
      {"tensor 'layers.0.attention.wk.qscale_weight': has the scale -1",
       [](auto& all) {
         find_tensor(all, "layers.0.attention.wk.qscale_weight").bytes = std::string("\0\0\x80\xbf", 4);
       }},
      {"tensor 'layers.0.attention.wk.qscale_weight': has dtype i64, expected bf16, f16 or f32",
       [](auto& all) {
         auto& scale = find_tensor(all, "layers.0.attention.wk.qscale_weight");
         scale.dtype = DType::i64;
         scale.bytes = std::string(8, '\0');
       }},
      {"tensor 'layers.0.attention_norm.weight': has dtype f8_e4m3, which is not supported there",
       [](auto& all) {
         auto& norm = find_tensor(all, "layers.0.attention_norm.weight");
         norm.dtype = DType::f8_e4m3;
         norm.bytes.resize(norm.bytes.size() / 2);
       }},
      {"tensor 'layers.0.attention_norm.weight': has dtype i64, expected bf16, f16 or f32",
       [](auto& all) {
         auto& norm = find_tensor(all, "layers.0.attention_norm.weight");
         norm.dtype = DType::i64;
         norm.bytes.resize(norm.bytes.size() * 4);
       }},
      {"tensor 'layers.0.attention_norm.qscale_act' [] is not part of the model that params.json describes",
       [](auto& all) {
         all.push_back({"layers.0.attention_norm.qscale_act", DType::f32, {}, std::string(4, '\0')});
       }},
  };
  const TempDir folder;
  tests::write_layout(folder.path(), Naming::native, Files::safetensors, params, tensors);
  for (const Case& c : cases) {
    CAPTURE(std::string(c.cause));
    auto spoilt = whole;
    c.spoil(spoilt);
    tests::write_tensors(folder.path(), Naming::native, Files::safetensors, spoilt);
    CHECK_ERROR(run(folder.path(), folder / "m", Quant::bf16), ErrorKind::malformed, std::string(c.cause));
  }
}

TEST_CASE("releases that are not whole say what is missing") {
  const auto params = uneven_params();
  const auto tensors = tests::make_tiny_tensors(params, 16);
  const TempDir folder;
  const auto refuse = [&](const std::string& cause) {
    CHECK_ERROR(run(folder.path(), folder / "m", Quant::bf16), ErrorKind::malformed, cause);
  };
  tests::write_layout(folder.path(), Naming::hub, Files::safetensors_shards, params, tensors);
  std::filesystem::remove(folder / "tokenizer.model");
  refuse("tokenizer.model is missing");
  tests::write_plainly(folder / "tokenizer.json", "<html>");
  refuse("tokenizer.json: is a web page, not a tokenizer");
  std::filesystem::remove(folder / "config.json");
  refuse("config.json is missing");
  std::filesystem::remove(folder / "model-00002-of-00003.safetensors");
  refuse("shard 2 of the checkpoint of 'model-00001-of-00003.safetensors' is missing: there must be 3");
}

TEST_CASE("a folder with two checkpoints: the one that is whole, and the native one of two") {
  const auto params = uneven_params();
  const auto first = tests::make_tiny_tensors(params, 17);
  const auto second = tests::make_tiny_tensors(params, 18);
  const TempDir folder;
  tests::write_layout(folder.path(), Naming::native, Files::safetensors, params, first);
  const auto native = run(folder.path(), folder / "m.sluice", Quant::bf16).tensors_sha256;
  const TempDir other;
  tests::write_layout(other.path(), Naming::hub, Files::safetensors_shards, params, second);
  const auto hub = run(other.path(), other / "m.sluice", Quant::bf16).tensors_sha256;
  tests::write_layout(folder.path(), Naming::hub, Files::safetensors_shards, params, second);
  CHECK(run(folder.path(), folder / "m.sluice", Quant::bf16).tensors_sha256 == native);
  const auto size = std::filesystem::file_size(folder / "consolidated.safetensors");
  std::filesystem::resize_file(folder / "consolidated.safetensors", size - 1);
  CHECK(run(folder.path(), folder / "m.sluice", Quant::bf16).tensors_sha256 == hub);
  std::filesystem::remove(folder / "model-00003-of-00003.safetensors");
  CHECK_ERROR(run(folder.path(), folder / "m.sluice", Quant::bf16), ErrorKind::malformed,
              "consolidated.safetensors: has " + std::to_string(size - 1) + " bytes, its tensors end at " +
                  std::to_string(size) + ": it is cut short");
}
