#pragma once
// A small gpt-oss with random experts in MXFP4, as it is released on the hub and as llama.cpp stores it.
// Written from the descriptions of both forms, without the reader's code.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/safetensors_writer.h"

namespace sluice::tests {

/// One matrix in MXFP4, row-major.
struct MxMatrix {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;               ///< a multiple of 32
  std::vector<std::uint8_t> codes;      ///< 0 to 15, [row][col]
  std::vector<std::uint8_t> exponents;  ///< [row][col / 32]

  [[nodiscard]] float value(std::uint64_t row, std::uint64_t col) const;
  /// Codes of a row, two in a byte, the first in the low nibble; its exponents.
  [[nodiscard]] std::string packed_codes(std::uint64_t row) const;
  [[nodiscard]] std::string packed_exponents(std::uint64_t row) const;
};

struct MxRelease {
  std::string config;
  std::vector<RawTensor> native;            ///< all tensors of the model in bf16, in order
  std::map<std::string, MxMatrix> experts;  ///< those of them that are released in MXFP4, by native name

  /// The release's tensors: "..._blocks" and "..._scales" for the experts' matrices.
  [[nodiscard]] std::vector<RawTensor> hub_tensors() const;
  /// What a source digest is over: codes, then exponents, row by row.
  [[nodiscard]] std::string released_rows(const std::string& native_name) const;
};

/// tests::small_config("gpt_oss").
[[nodiscard]] MxRelease make_mx_release(std::uint64_t seed);
/// Writes the folder as write_family_release() does.
void write_mx_release(const std::filesystem::path& folder, const MxRelease& release);
/// Writes a GGUF file with the experts in MXFP4 and everything else in f32.
void write_mx_gguf(const std::filesystem::path& path, const MxRelease& release);

}  // namespace sluice::tests
