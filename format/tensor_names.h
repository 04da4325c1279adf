#pragma once
// What each layout of checkpoints calls the model's tensors, and how it packs several of them into one.
// docs/checkpoints.md, "Layouts".

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/model_tensors.h"

namespace sluice::format {

/// Where one of the model's tensors stands in a tensor of the files.
struct Placement {
  std::string layout;
  std::string name;
  Shape shape;                               ///< shape of the whole tensor in the files
  std::optional<std::uint64_t> outer_index;  ///< along its first axis, when it has one more
  std::uint64_t first_row = 0;
  bool transposed = false;  ///< [in, out] instead of [out, in]
  /// So many matrices, or vectors, take turns along their outputs; this one is the `turn`-th of them.
  std::uint64_t turns = 1;
  std::uint64_t turn = 0;
  /// Not empty for a matrix in MXFP4, whose codes and exponents are two tensors: `name` [.., out, in / 32,
  /// 16] and this one [.., out, in / 32].
  std::string exponents_name;
  std::uint64_t rotary_width = 0;  ///< TensorView::rotary_width
};

/// Where a tensor of the model may stand, the usual place first, under Mistral's names: one by one, or
/// stacked as in the early upload of Mixtral 8x7B. Error{malformed} for a role that the layout has no name
/// for, like those below.
[[nodiscard]] std::vector<Placement> native_placements(const ModelTensor& tensor,
                                                       const ModelDescription& description);
/// The places of a tensor under the names of llama.cpp: experts merged, merged with gate and up in one, or
/// one by one as in older files.
[[nodiscard]] std::vector<Placement> gguf_placements(const ModelTensor& tensor,
                                                     const ModelDescription& description);
/// Prefixes under the names of Hugging Face's transformers: a model that reads images, too, has its text part
/// in a model of its own.
struct HubRoot {
  std::string_view model;  ///< of everything but the head: "model.", "model.language_model."
  std::string_view head;   ///< of the head; mostly empty
};

/// All that are known, the usual one first.
[[nodiscard]] std::span<const HubRoot> hub_roots();

/// The places of a tensor under the names of Hugging Face's transformers: experts one by one, or fused.
[[nodiscard]] std::vector<Placement> hub_placements(const ModelTensor& tensor,
                                                    const ModelDescription& description,
                                                    const HubRoot& root = hub_roots().front());

/// Names that the scale of an FP8 tensor can have, and those of its inputs' scales, which say nothing about
/// the weights.
[[nodiscard]] std::vector<std::string> scale_names(std::string_view tensor);
[[nodiscard]] std::vector<std::string> input_scale_names(std::string_view tensor);

}  // namespace sluice::format
