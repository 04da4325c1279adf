#pragma once
// What the layouts call the model's tensors, and how they put them into those of the files.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/model_tensors.h"

namespace sluice::format {

/// Where one of the model's tensors stands in a tensor of the files.
struct Placement {
  std::string layout;
  std::string name;
  Shape shape;                               ///< of the whole tensor in the files
  std::optional<std::uint64_t> outer_index;  ///< along its first axis, when it has one more
  std::uint64_t first_row = 0;
  bool transposed = false;         ///< [in, out] instead of [out, in]
  std::uint64_t rotary_width = 0;  ///< TensorView::rotary_width
};

/// Where a tensor may stand under the native names, or those of Hugging Face's transformers. The usual place
/// is first.
[[nodiscard]] std::vector<Placement> native_placements(const ModelTensor& tensor, const ModelParams& params);
/// Those of llama.cpp: experts merged, merged with gate and up in one, or one by one as in older files.
[[nodiscard]] std::vector<Placement> gguf_placements(const ModelTensor& tensor, const ModelParams& params);
[[nodiscard]] std::vector<Placement> hub_placements(const ModelTensor& tensor, const ModelParams& params);

/// Names under which the scale of an FP8 tensor can stand beside it, and those of its inputs' scales, which
/// say nothing about the weights.
[[nodiscard]] std::vector<std::string> scale_names(std::string_view tensor);
[[nodiscard]] std::vector<std::string> input_scale_names(std::string_view tensor);

}  // namespace sluice::format
