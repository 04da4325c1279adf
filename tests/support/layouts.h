#pragma once
// The same tiny model in every layout in which models were released. Names and shapes are written down here a
// second time, without the reader's code.

#include <filesystem>
#include <vector>

#include "tests/support/safetensors_writer.h"
#include "tests/support/tiny_release.h"

namespace sluice::tests {

enum class Naming : std::uint8_t {
  native,   ///< mistral-inference
  stacked,  ///< the early upload in eight shards: block_sparse_moe.w1, .w2 (transposed), .w3
  hub,      ///< Hugging Face transformers
  fused,    ///< the same, version 5: mlp.experts.gate_up_proj, .down_proj
};

enum class Files : std::uint8_t {
  pth,
  pth_shards,          ///< consolidated.00.pth, .01.pth, ..
  safetensors,         ///< consolidated.safetensors, or model.safetensors
  safetensors_shards,  ///< ..-00001-of-00003.safetensors; transformers' with an index file
};

constexpr Naming kNamings[] = {Naming::native, Naming::stacked, Naming::hub, Naming::fused};
constexpr Files kFiles[] = {Files::pth, Files::pth_shards, Files::safetensors, Files::safetensors_shards};

/// The tensors under the names, in the shapes and in the order of rows of a naming. bf16, or f32 of it.
[[nodiscard]] std::vector<RawTensor> to_layout(Naming naming, const format::ModelParams& params,
                                               const std::vector<TinyTensor>& tensors,
                                               format::DType dtype = format::DType::bf16);

void write_tensors(const std::filesystem::path& folder, Naming naming, Files files,
                   const std::vector<RawTensor>& tensors);

/// params.json or config.json, as it comes with the naming.
void write_params(const std::filesystem::path& folder, Naming naming, const format::ModelParams& params);

/// All of it, and the tokenizer, into an existing folder.
void write_layout(const std::filesystem::path& folder, Naming naming, Files files,
                  const format::ModelParams& params, const std::vector<TinyTensor>& tensors,
                  format::DType dtype = format::DType::bf16);

/// Row h * width + j * width / 2 + i is row h * width + 2 i + j of `native`: how transformers has q and k.
[[nodiscard]] std::vector<std::uint16_t> to_halves(const std::vector<std::uint16_t>& native,
                                                   std::uint64_t cols, std::uint64_t width);

}  // namespace sluice::tests
