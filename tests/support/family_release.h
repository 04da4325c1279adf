#pragma once
// Writes a small model of a family with random weights as the family is released: names of transformers with
// experts one by one or fused, or a GGUF file. Names and shapes are repeated here, without the reader's code.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/model_description.h"
#include "tests/support/safetensors_writer.h"

namespace sluice::tests {

/// All tensors of a model under native names, in the order of model_tensors(): bf16, biases for choosing in
/// f32. The same for the same seed.
[[nodiscard]] std::vector<RawTensor> make_family_tensors(const format::ModelDescription& description,
                                                         std::uint64_t seed);

enum class FamilyNaming : std::uint8_t {
  released,  ///< as on the hub
  fused,     ///< experts as transformers 5 saves them
};
constexpr FamilyNaming kFamilyNamings[] = {FamilyNaming::released, FamilyNaming::fused};

/// The tensors under the names of transformers; `family` is a model_type.
[[nodiscard]] std::vector<RawTensor> to_family_names(std::string_view family, FamilyNaming naming,
                                                     const std::vector<RawTensor>& native);

/// Writes config.json, model.safetensors and a tokenizer.model into an existing folder.
void write_family_release(const std::filesystem::path& folder, std::string_view config,
                          const std::vector<RawTensor>& tensors);

/// Whether a GGUF file has keys and values of latent attention in one tensor, as before 2025, or in two, of
/// which the keys are transposed head by head.
enum class LatentHeads : std::uint8_t { together, split };

/// Writes a GGUF file with llama.cpp's keys for the model that small_config(family) describes, and f32
/// values. Tensors of dtype mxfp4, whose bytes are ggml's blocks, are stored as they are.
void write_family_gguf(const std::filesystem::path& path, std::string_view family,
                       const std::vector<RawTensor>& native, LatentHeads heads = LatentHeads::split);

/// The architecture that llama.cpp gives a family.
[[nodiscard]] std::string gguf_architecture(std::string_view family);

}  // namespace sluice::tests
