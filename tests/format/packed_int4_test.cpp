// Matrices of eight 4-bit codes in each i32, with a factor for each group of columns.

#include "format/packed_int4.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "base/file.h"
#include "format/hub/family_config.h"
#include "format/released_model.h"
#include "tests/support/check_error.h"
#include "tests/support/family_configs.h"
#include "tests/support/family_release.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::RawTensor;
using tests::TempDir;

template <typename T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// A matrix of codes from -8 to 7, all of which occur, and factors that differ from their neighbours.
struct Int4Matrix {
  std::uint64_t rows;
  std::uint64_t cols;
  std::uint64_t group;

  [[nodiscard]] std::uint64_t groups() const { return (cols + group - 1) / group; }
  [[nodiscard]] static int code(std::uint64_t row, std::uint64_t col) {
    return static_cast<int>((row * 7 + col * 5 + row * col) % 16) - 8;
  }
  [[nodiscard]] std::uint16_t factor(std::uint64_t row, std::uint64_t col) const {
    return f32_to_bf16(0.0031F * static_cast<float>(1 + row * groups() + col / group));
  }
  [[nodiscard]] std::uint16_t value(std::uint64_t row, std::uint64_t col) const {
    return f32_to_bf16(static_cast<float>(code(row, col)) * bf16_to_f32(factor(row, col)));
  }

  /// The three tensors as compressed-tensors writes them; what lies behind the last column is 0.
  [[nodiscard]] std::vector<RawTensor> packed(const std::string& name) const {
    const std::uint64_t words = (cols + 7) / 8;
    std::string codes;
    std::string scale;
    std::string shape;
    for (std::uint64_t row = 0; row < rows; ++row) {
      for (std::uint64_t word = 0; word < words; ++word) {
        std::uint32_t bits = 0;
        for (std::uint64_t col = word * 8; col < std::min(word * 8 + 8, cols); ++col)
          bits |= static_cast<std::uint32_t>(code(row, col) + 8) << (4 * (col % 8));
        append(codes, bits);
      }
      for (std::uint64_t col = 0; col < cols; col += group) append(scale, factor(row, col));
    }
    append(shape, static_cast<std::int64_t>(rows));
    append(shape, static_cast<std::int64_t>(cols));
    return {{name + "_packed", DType::i32, {rows, words}, codes},
            {name + "_scale", DType::bf16, {rows, groups()}, scale},
            {name + "_shape", DType::i64, {2}, shape}};
  }
};

constexpr const char* kExpert = "model.layers.4.mlp.experts.5.up_proj.weight";

std::string config_of(std::uint64_t hidden, std::uint64_t width) {
  std::string config = tests::changed_config("deepseek_v3", "hidden_size", std::to_string(hidden));
  config = tests::changed_text(config, "moe_intermediate_size", std::to_string(width));
  return tests::changed_text(config, "quantization_config",
                             R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
      "ignore": ["lm_head", "re:.*self_attn.*"], "kv_cache_scheme": null, "quantization_status": "compressed",
      "config_groups": {"group_0": {"input_activations": null, "output_activations": null,
        "targets": ["Linear"], "weights": {"actorder": null, "block_structure": null, "dynamic": false,
          "group_size": 32, "num_bits": 4, "observer": "minmax", "observer_kwargs": {}, "strategy": "group",
          "symmetric": true, "type": "int"}}}})");
}

/// Writes a release of which one expert's matrix is packed, after `change`.
void write_release(const TempDir& folder, const Int4Matrix& matrix,
                   const std::function<void(std::vector<RawTensor>&)>& change = {}) {
  const std::string config = config_of(matrix.cols, matrix.rows);
  const auto native = tests::make_family_tensors(parse_model_config(config, "c").description, 21);
  auto tensors = tests::to_family_names("deepseek_v3", tests::FamilyNaming::released, native);
  REQUIRE(std::erase_if(tensors, [](const RawTensor& tensor) { return tensor.name == kExpert; }) == 1);
  for (RawTensor& tensor : matrix.packed(kExpert)) tensors.push_back(std::move(tensor));
  if (change) change(tensors);
  tests::write_family_release(folder.path(), config, tensors);
}

const TensorView& view_of_expert(const ReleasedModel& model) {
  const auto found = std::ranges::find_if(model.tensors, [](const ReleasedTensor& tensor) {
    return tensor.target.name == "layers.4.feed_forward.experts.5.w3.weight";
  });
  REQUIRE(found != model.tensors.end());
  return found->view;
}

TEST_CASE("packed 4-bit codes are code x factor, rounded to bf16") {
  // Widths that are no multiples of a group or of a word, and all sizes of groups.
  for (const Int4Matrix& matrix : {Int4Matrix{36, 96, 32}, Int4Matrix{24, 204, 32}, Int4Matrix{24, 204, 64},
                                   Int4Matrix{24, 301, 128}, Int4Matrix{24, 204, 204}}) {
    CAPTURE(matrix.cols);
    CAPTURE(matrix.group);
    const TempDir folder(tests::fast_directory());
    write_release(folder, matrix);
    const ReleasedModel model = open_released_model(folder.path());
    CHECK(model.skipped_tensors.empty());
    CHECK(model.layout == "hugging-face");
    const TensorView& view = view_of_expert(model);
    CHECK(view.dtype == DType::bf16);
    const auto file = base::File::open_read(model.files[view.file_index]);
    const TensorSource source(view, file);
    std::vector<std::byte> bytes;
    source.read_rows(3, matrix.rows - 3, bytes);
    for (std::uint64_t row = 3; row < matrix.rows; ++row)
      for (std::uint64_t col = 0; col < matrix.cols; ++col)
        REQUIRE(base::load_le<std::uint16_t>(bytes, 2 * ((row - 3) * matrix.cols + col)) ==
                matrix.value(row, col));
  }
}

TEST_CASE("packed codes that do not go together with their factors and shape are refused by tensor") {
  const Int4Matrix matrix{36, 96, 32};
  const std::string expert = kExpert;
  const auto tensor_named = [](std::vector<RawTensor>& tensors, const std::string& name) -> RawTensor& {
    return *std::ranges::find(tensors, name, &RawTensor::name);
  };
  const auto without = [](const std::string& name) {
    return [name](std::vector<RawTensor>& tensors) {
      std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == name; });
    };
  };
  const auto reshaped = [&](const std::string& name, DType dtype, const Shape& shape) {
    return [=](std::vector<RawTensor>& tensors) {
      RawTensor& tensor = tensor_named(tensors, name);
      tensor = {name, dtype, shape, std::string(element_count(shape).value() * size_bytes(dtype), '\1')};
    };
  };
  const auto added = [&](const std::string& name) {
    return [=](std::vector<RawTensor>& tensors) {
      tensors.push_back({name, DType::bf16, {36, 96}, std::string(36 * 96 * 2, '\0')});
    };
  };
  struct Case {
    std::function<void(std::vector<RawTensor>&)> change;
    std::string cause;
  };
  for (const auto& [change, cause] : std::vector<Case>{
           {without(expert + "_packed"), "tensor '" + expert + "' is missing"},
           {without(expert + "_scale"),
            "tensor '" + expert + "_packed': has no scale: '" + expert + "_scale' is missing"},
           {without(expert + "_shape"),
            "tensor '" + expert + "_packed': has no shape: '" + expert + "_shape' is missing"},
           {reshaped(expert + "_packed", DType::i32, {36, 13}),
            "tensor '" + expert + "_packed': has shape [36, 13], config.json asks for [36, 12]"},
           {reshaped(expert + "_packed", DType::i32, {12, 36}), "config.json asks for [36, 12]"},
           {reshaped(expert + "_packed", DType::u8, {36, 12}),
            "tensor '" + expert + "_packed': has dtype u8, expected i32"},
           {reshaped(expert + "_scale", DType::bf16, {36, 4}),
            "tensor '" + expert +
                "_scale': has shape [36, 4], expected [36, 3], one factor for 32 columns, or "
                "for 64, 128 or a whole row"},
           {reshaped(expert + "_scale", DType::f8_e4m3, {36, 3}),
            "tensor '" + expert + "_scale': has dtype f8_e4m3, expected bf16, f16 or f32"},
           {reshaped(expert + "_shape", DType::i64, {3}),
            "tensor '" + expert + "_shape': has shape [3], config.json asks for [2]"},
           {reshaped(expert + "_shape", DType::f32, {2}),
            "tensor '" + expert + "_shape': has dtype f32, expected i64 or i32"},
           {added(expert), "tensor '" + expert + "_packed' [36, 12] is not part of the model"},
           {added(expert + "_zero_point"), "tensor '" + expert + "_zero_point' [36, 96] is not part of"},
       }) {
    CAPTURE(cause);
    const TempDir folder(tests::fast_directory());
    write_release(folder, matrix, change);
    CHECK_ERROR(open_released_model(folder.path()), ErrorKind::malformed, cause);
  }
}

TEST_CASE("a factor that is no number is refused by its place when the matrix is read") {
  const Int4Matrix matrix{36, 96, 32};
  const TempDir folder(tests::fast_directory());
  write_release(folder, matrix, [](std::vector<RawTensor>& tensors) {
    RawTensor& scale = *std::ranges::find(tensors, std::string(kExpert) + "_scale", &RawTensor::name);
    scale.bytes.replace(2 * 5, 2, "\xC0\x7F");  // NaN in row 1, group 2
  });
  const ReleasedModel model = open_released_model(folder.path());
  const TensorView& view = view_of_expert(model);
  const auto file = base::File::open_read(model.files[view.file_index]);
  CHECK_ERROR(TensorSource(view, file), ErrorKind::malformed,
              "tensor '" + std::string(kExpert) + "_scale': has the scale nan at [1, 2]");
}

}  // namespace
}  // namespace sluice::format
