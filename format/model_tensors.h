#pragma once
// Which tensors a model has, by their native names: what a checkpoint must hold and a container holds.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/model_params.h"
#include "format/tensor.h"

namespace sluice::format {

enum class TensorRole : std::uint8_t { embedding, norm, attention, router, expert, head };

struct ModelTensor {
  std::string name;
  Shape shape;  ///< [out, in] for matrices
  TensorRole role = TensorRole::norm;
  // For role expert.
  std::uint64_t layer = 0;
  std::uint64_t expert = 0;
};

/// All tensors in the order in which a forward pass needs them, which is their order in a container. An
/// expert's matrices stand together: w1 (gate), w3 (up), w2 (down).
[[nodiscard]] std::vector<ModelTensor> model_tensors(const ModelParams& params);

// Native names.
[[nodiscard]] std::string layer_tensor_name(std::uint64_t layer, std::string_view rest);
/// `matrix` is "w1", "w2" or "w3". Dense models have no expert number in the name.
[[nodiscard]] std::string expert_tensor_name(const ModelParams& params, std::uint64_t layer,
                                             std::uint64_t expert, std::string_view matrix);

}  // namespace sluice::format
