#pragma once
// A model's weights as the forward pass sees them: views into the mapped container, and small float tensors
// copied into padded rows. Also which of them have been verified.
//
// Shapes are [outputs, inputs], as in the checkpoint. Everything is immutable after opening, except the flags
// of what has been verified, which are atomic; so engines on several threads may share a model.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.h"
#include "format/container_proofs.h"
#include "format/container_reader.h"
#include "format/model_tensors.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/products.h"
#include "runtime/memory/supported_model.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

using format::TensorRole;

/// The unit of verification: an expert, or a tensor that belongs to no expert.
using ProofPart = format::ContainerProofs::Part;

struct WeightMatrix {
  Matrix matrix;
  ProofPart part;
};

struct ExpertWeights {
  WeightMatrix gate;  ///< [hidden, dim], w1 in Mistral's names
  WeightMatrix up;    ///< [hidden, dim], w3
  WeightMatrix down;  ///< [dim, hidden], w2
  ProofPart part;     ///< all three
};

struct LayerWeights {
  Buffer<float> attention_norm;   ///< [dim padded]
  WeightMatrix query;             ///< [heads x head_dim, dim]
  WeightMatrix key, value;        ///< [kv_heads x head_dim, dim]
  WeightMatrix attention_output;  ///< [dim, heads x head_dim]
  Buffer<float> ffn_norm;         ///< [dim padded]
  Buffer<float> router;           ///< [expert][dim padded]; empty in dense models
  std::vector<ExpertWeights> experts;
};

struct Model::Impl {
  Impl(const std::filesystem::path& path, const ModelOptions& options);

  format::ContainerReader container;
  Verify verify;
  std::unique_ptr<format::ContainerProofs> proofs;
  const DecoderShape shape;
  std::unique_ptr<text::Tokenizer> tokenizer;

  std::size_t dim_padded;
  const std::uint16_t* embedding;  ///< [vocab][dim] bf16
  ProofPart embedding_part;
  std::vector<LayerWeights> layers;
  Buffer<float> final_norm;
  WeightMatrix head;

  /// True when `part` must be verified before it is used.
  [[nodiscard]] bool unproven(ProofPart part) const { return verify != Verify::off && !proofs->proven(part); }
  /// Verifies those of `parts` that have not been verified, with all of the pool's workers. A mismatch is
  /// Error{verification} naming the tensor.
  void prove(std::span<const ProofPart> parts, base::WorkerPool& pool) const;

 private:
  void ask_for_huge_pages() const;
  void prove_opened(unsigned thread_count) const;
  /// Index into container.tensors().
  [[nodiscard]] std::size_t find(TensorRole role, std::uint64_t layer = 0, std::uint64_t expert = 0) const;
  [[nodiscard]] WeightMatrix matrix(TensorRole role, std::uint64_t layer = 0, std::uint64_t expert = 0) const;
  [[nodiscard]] Buffer<float> padded_rows(TensorRole role, std::uint64_t layer = 0) const;
};

}  // namespace sluice::runtime
