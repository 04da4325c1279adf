#pragma once
// A model's weights as the forward pass sees them: views into the mapped container, and small float tensors
// copied into padded rows. Also the record of which tensors have been proven.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.h"
#include "format/container_reader.h"
#include "runtime/buffer.h"
#include "runtime/matmul.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Index into ContainerReader::tensors().
using TensorIndex = std::size_t;

struct WeightMatrix {
  Matrix matrix;
  TensorIndex tensor;
};

struct ExpertWeights {
  WeightMatrix w1;  ///< gate [hidden, dim]
  WeightMatrix w3;  ///< up [hidden, dim]
  WeightMatrix w2;  ///< down [dim, hidden]
};

struct LayerWeights {
  Buffer<float> attention_norm;  ///< [dim padded]
  WeightMatrix wq, wk, wv, wo;
  Buffer<float> ffn_norm;  ///< [dim padded]
  Buffer<float> router;    ///< [expert][dim padded]; empty in dense models
  std::vector<ExpertWeights> experts;
};

struct Model::Impl {
  explicit Impl(const std::filesystem::path& path);

  format::ContainerReader container;
  const format::ModelParams& params;
  std::unique_ptr<Tokenizer> tokenizer;

  std::size_t dim_padded;
  const std::uint16_t* embedding;  ///< [vocab][dim] bf16
  TensorIndex embedding_tensor;
  std::vector<LayerWeights> layers;
  Buffer<float> final_norm;
  WeightMatrix head;

  /// Compares the digests of those of `tensors` that have not been compared yet, in parallel. A mismatch is
  /// Error{verification} naming the tensor.
  void prove(std::span<const TensorIndex> tensors, base::WorkerPool& pool) const;

 private:
  [[nodiscard]] TensorIndex find(const std::string& name) const;
  [[nodiscard]] WeightMatrix matrix(const std::string& name) const;
  [[nodiscard]] Buffer<float> padded_rows(const std::string& name) const;

  mutable std::vector<std::atomic<bool>> proven_;  // by TensorIndex
};

}  // namespace sluice::runtime
