#pragma once
// Since 2025 llama.cpp keeps the matrix that makes keys and values of latent attention in two tensors, one of
// which is transposed head by head, because its graph multiplies by it from the other side
// (convert_hf_to_gguf.py, DeepseekV2Model):
//
//   blk.N.attn_k_b.weight  [heads, latent rank, plain dims]
//   blk.N.attn_v_b.weight  [heads, value dims, latent rank]

#include <optional>
#include <string_view>

#include "format/checkpoint_index.h"
#include "format/model_description.h"
#include "format/model_tensors.h"
#include "format/tensor_source.h"

namespace sluice::format {

struct SplitHeadTensors {
  const CheckpointTensor* keys = nullptr;
  const CheckpointTensor* values = nullptr;
};

/// Nothing unless the file has the keys' tensor of the layer. Error{malformed} when it lacks the values'.
[[nodiscard]] std::optional<SplitHeadTensors> find_split_heads(const CheckpointIndex& checkpoint,
                                                               std::uint64_t layer);

/// The view of `target`, the matrix of keys and values, in the two tensors. Error{malformed} naming file and
/// tensor for other shapes and types.
[[nodiscard]] TensorView split_heads_view(const CheckpointIndex& checkpoint, const SplitHeadTensors& tensors,
                                          const ModelTensor& target, const LatentAttention& mixer);

}  // namespace sluice::format
