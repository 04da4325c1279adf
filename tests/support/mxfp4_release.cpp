#include "tests/support/mxfp4_release.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "base/invariant.h"
#include "format/hub/family_config.h"
#include "format/model_tensors.h"
#include "tests/support/family_configs.h"
#include "tests/support/family_release.h"

namespace sluice::tests {
namespace {

using format::DType;

constexpr float kE2m1[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};

MxMatrix random_matrix(std::uint64_t rows, std::uint64_t cols, std::mt19937_64& random) {
  MxMatrix matrix{rows, cols, {}, {}};
  for (std::uint64_t i = 0; i < rows * cols; ++i)
    matrix.codes.push_back(static_cast<std::uint8_t>(random() % 16));
  for (std::uint64_t i = 0; i < rows * cols / 32; ++i)
    matrix.exponents.push_back(static_cast<std::uint8_t>(116 + random() % 9));
  // Blocks of zeros, with codes of both signs and any exponent: nothing may tidy them up.
  std::fill_n(matrix.codes.begin(), 32, std::uint8_t{0});
  matrix.codes[5] = 8;
  matrix.exponents[0] = 97;
  return matrix;
}

std::string to_bf16(const MxMatrix& matrix) {
  std::string bytes;
  for (std::uint64_t row = 0; row < matrix.rows; ++row) {
    for (std::uint64_t col = 0; col < matrix.cols; ++col) {
      const auto bits =
          static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(matrix.value(row, col)) >> 16);
      bytes += static_cast<char>(bits & 255);
      bytes += static_cast<char>(bits >> 8);
    }
  }
  return bytes;
}

std::string expert_name(std::uint64_t layer, std::uint64_t expert, const char* matrix) {
  return "layers." + std::to_string(layer) + ".feed_forward.experts." + std::to_string(expert) + "." +
         matrix + ".weight";
}

/// Blocks and scales of the experts of a layer; `matrices` take turns row by row.
void add_pair(const MxRelease& release, std::uint64_t layer, std::uint64_t experts,
              const std::vector<const char*>& matrices, const std::string& name,
              std::vector<RawTensor>& out) {
  RawTensor blocks{name + "_blocks", DType::u8, {}, {}};
  RawTensor scales{name + "_scales", DType::u8, {}, {}};
  for (std::uint64_t expert = 0; expert < experts; ++expert) {
    const MxMatrix& first = release.experts.at(expert_name(layer, expert, matrices[0]));
    for (std::uint64_t row = 0; row < first.rows; ++row) {
      for (const char* matrix : matrices) {
        const MxMatrix& one = release.experts.at(expert_name(layer, expert, matrix));
        blocks.bytes += one.packed_codes(row);
        scales.bytes += one.packed_exponents(row);
      }
    }
    scales.shape = {experts, first.rows * matrices.size(), first.cols / 32};
    blocks.shape = {experts, first.rows * matrices.size(), first.cols / 32, 16};
  }
  out.push_back(std::move(blocks));
  out.push_back(std::move(scales));
}

/// ggml's blocks: the exponent, then weight j in the low nibble of byte j and weight j + 16 in the high one.
std::string ggml_blocks(const MxMatrix& matrix) {
  std::string bytes;
  for (std::uint64_t block = 0; block < matrix.codes.size() / 32; ++block) {
    bytes += static_cast<char>(matrix.exponents[block]);
    for (std::uint64_t j = 0; j < 16; ++j)
      bytes += static_cast<char>(matrix.codes[block * 32 + j] | matrix.codes[block * 32 + j + 16] << 4);
  }
  return bytes;
}

}  // namespace

float MxMatrix::value(std::uint64_t row, std::uint64_t col) const {
  const unsigned code = codes[row * cols + col];
  const float magnitude = std::ldexp(kE2m1[code & 7], exponents[(row * cols + col) / 32] - 127);
  return code >= 8 ? -magnitude : magnitude;
}

std::string MxMatrix::packed_codes(std::uint64_t row) const {
  std::string bytes;
  for (std::uint64_t col = 0; col < cols; col += 2)
    bytes += static_cast<char>(codes[row * cols + col] | codes[row * cols + col + 1] << 4);
  return bytes;
}

std::string MxMatrix::packed_exponents(std::uint64_t row) const {
  const auto first = exponents.begin() + static_cast<std::ptrdiff_t>(row * cols / 32);
  return {first, first + static_cast<std::ptrdiff_t>(cols / 32)};
}

std::vector<RawTensor> MxRelease::hub_tensors() const {
  std::vector<RawTensor> tensors;
  for (RawTensor& tensor : to_family_names("gpt_oss", FamilyNaming::released, native)) {
    const bool fused = tensor.name.ends_with("gate_up_proj");
    if (!fused && !tensor.name.ends_with("experts.down_proj")) {
      tensors.push_back(std::move(tensor));
      continue;
    }
    constexpr std::string_view kLayers = "model.layers.";
    const std::uint64_t layer = std::stoull(tensor.name.substr(kLayers.size()));
    const std::uint64_t count = tensor.shape[0];
    if (fused) {
      add_pair(*this, layer, count, {"w1", "w3"}, tensor.name, tensors);
    } else {
      add_pair(*this, layer, count, {"w2"}, tensor.name, tensors);
    }
  }
  return tensors;
}

std::string MxRelease::released_rows(const std::string& native_name) const {
  const MxMatrix& matrix = experts.at(native_name);
  std::string bytes;
  for (std::uint64_t row = 0; row < matrix.rows; ++row)
    bytes += matrix.packed_codes(row) + matrix.packed_exponents(row);
  return bytes;
}

MxRelease make_mx_release(std::uint64_t seed) {
  MxRelease release;
  release.config = small_config("gpt_oss");
  const auto description = format::parse_model_config(release.config, "config.json").description;
  release.native = make_family_tensors(description, seed);
  std::mt19937_64 random(seed);
  for (RawTensor& tensor : release.native) {
    if (tensor.name.find(".experts.") == std::string::npos || !tensor.name.ends_with(".weight")) continue;
    MxMatrix matrix = random_matrix(tensor.shape[0], tensor.shape[1], random);
    tensor.bytes = to_bf16(matrix);
    release.experts.emplace(tensor.name, std::move(matrix));
  }
  INVARIANT(!release.experts.empty());
  return release;
}

void write_mx_release(const std::filesystem::path& folder, const MxRelease& release) {
  write_family_release(folder, release.config, release.hub_tensors());
}

void write_mx_gguf(const std::filesystem::path& path, const MxRelease& release) {
  std::vector<RawTensor> tensors = release.native;
  for (RawTensor& tensor : tensors) {
    const auto found = release.experts.find(tensor.name);
    if (found == release.experts.end()) continue;
    tensor.dtype = DType::mxfp4;
    tensor.bytes = ggml_blocks(found->second);
  }
  write_family_gguf(path, "gpt_oss", tensors);
}

}  // namespace sluice::tests
