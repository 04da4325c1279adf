#pragma once
// Makes a release in the layout of the Mixtral 8x7B torrent (params.json, consolidated.00.pth,
// tokenizer.model) with random weights of any size, the same for the same seed on every machine.
//
//   TempDir folder;
//   write_tiny_release(folder.path(), tiny_params(), 1);
//
// To break it on purpose, change the tensors in between:
//
//   auto tensors = make_tiny_tensors(params, 1);
//   tensors.pop_back();
//   write_tiny_release(folder.path(), params, tensors);

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "format/container_format.h"
#include "format/mistral_params.h"
#include "format/model_tensors.h"
#include "format/tensor.h"

namespace sluice::tests {

/// The vocabulary of the only tokenizer that the repository has, that of stories-moe.
constexpr std::uint64_t kTinyVocab = 2048;

/// 2 layers of width 64, 4 heads over 2, 4 experts of width 128 of which a token uses 2.
[[nodiscard]] format::MistralParams tiny_params();

struct TinyTensor {
  std::string name;
  format::Shape shape;
  std::vector<std::uint16_t> bf16;  ///< row-major
};

/// All tensors of a model of these sizes under their native names. Norms are near 1, matrices have the
/// variance 1 / inputs. A tensor's values depend only on the seed, its name and its shape.
[[nodiscard]] std::vector<TinyTensor> make_tiny_tensors(const format::MistralParams& params,
                                                        std::uint64_t seed);

/// How a container stores the tensor when its matrices are stored so.
[[nodiscard]] format::Storage storage_of(const format::ModelTensor& tensor, format::Storage matrices);

/// Writes the release into an existing folder. Its tokenizer has kTinyVocab tokens, whatever
/// params.vocab_size says.
void write_tiny_release(const std::filesystem::path& folder, const format::MistralParams& params,
                        const std::vector<TinyTensor>& tensors);
void write_tiny_release(const std::filesystem::path& folder, const format::MistralParams& params,
                        std::uint64_t seed);

}  // namespace sluice::tests
