#pragma once
// Writes the same tiny model in every layout in which models were released. Names and shapes are repeated
// here, without the reader's code.

#include <filesystem>
#include <vector>

#include "tests/support/safetensors_writer.h"
#include "tests/support/tiny_release.h"

namespace sluice::tests {

enum class Naming : std::uint8_t {
  native,   ///< mistral-inference
  stacked,  ///< the early upload in eight shards: block_sparse_moe.w1, .w2 (transposed), .w3
  hub,      ///< Hugging Face transformers
  fused,    ///< Hugging Face transformers 5: mlp.experts.gate_up_proj, .down_proj
};

enum class Files : std::uint8_t {
  pth,
  pth_shards,          ///< consolidated.00.pth, .01.pth, ..
  safetensors,         ///< consolidated.safetensors, or model.safetensors
  safetensors_shards,  ///< ..-00001-of-00003.safetensors; transformers' with an index file
};

constexpr Naming kNamings[] = {Naming::native, Naming::stacked, Naming::hub, Naming::fused};
constexpr Files kFiles[] = {Files::pth, Files::pth_shards, Files::safetensors, Files::safetensors_shards};

/// Gives the tensors the names, shapes and order of rows of a naming, in bf16 or as f32 of the same values.
[[nodiscard]] std::vector<RawTensor> to_layout(Naming naming, const format::MistralParams& params,
                                               const std::vector<TinyTensor>& tensors,
                                               format::DType dtype = format::DType::bf16);

void write_tensors(const std::filesystem::path& folder, Naming naming, Files files,
                   const std::vector<RawTensor>& tensors);

/// Writes params.json or config.json, whichever belongs to the naming.
void write_params(const std::filesystem::path& folder, Naming naming, const format::MistralParams& params);

/// Writes tensors, parameters and tokenizer into an existing folder.
void write_layout(const std::filesystem::path& folder, Naming naming, Files files,
                  const format::MistralParams& params, const std::vector<TinyTensor>& tensors,
                  format::DType dtype = format::DType::bf16);

/// Reorders the rows of q or k as transformers has them: row h * width + j * width / 2 + i of the result is
/// row h * width + 2 i + j of `native`.
[[nodiscard]] std::vector<std::uint16_t> to_halves(const std::vector<std::uint16_t>& native,
                                                   std::uint64_t cols, std::uint64_t width);

}  // namespace sluice::tests
