#include "format/gguf/gguf_split_heads.h"

#include <memory>
#include <string>

#include "base/error.h"

namespace sluice::format {
namespace {

[[noreturn]] void refuse(const CheckpointIndex& checkpoint, const CheckpointTensor& tensor,
                         const std::string& cause) {
  base::throw_malformed(checkpoint.files[tensor.file_index].string(),
                        "tensor '" + tensor.name + "': " + cause);
}

/// A tensor of three axes as the matrix that its first two make.
TensorView stacked_view(const CheckpointIndex& checkpoint, const CheckpointTensor& tensor,
                        const Shape& expected) {
  if (tensor.shape != expected) {
    refuse(checkpoint, tensor,
           "has shape " + to_string(tensor.shape) + ", its metadata asks for " + to_string(expected));
  }
  const bool in_blocks = block_weights(tensor.dtype) > 1;
  const bool is_float =
      tensor.dtype == DType::bf16 || tensor.dtype == DType::f16 || tensor.dtype == DType::f32;
  if (!in_blocks && !is_float)
    refuse(checkpoint, tensor, "has dtype " + std::string(to_string(tensor.dtype)) + ", expected floats");
  TensorView view;
  view.name = tensor.name;
  view.shape = {expected[0] * expected[1], expected[2]};
  view.dtype = in_blocks ? DType::f32 : tensor.dtype;
  view.stored_dtype = tensor.dtype;
  view.file_index = tensor.file_index;
  view.offset_bytes = tensor.offset_bytes;
  view.row_stride = expected[2];
  return view;
}

}  // namespace

std::optional<SplitHeadTensors> find_split_heads(const CheckpointIndex& checkpoint, std::uint64_t layer) {
  const std::string block = "blk." + std::to_string(layer) + ".";
  const SplitHeadTensors tensors{checkpoint.find(block + "attn_k_b.weight"),
                                 checkpoint.find(block + "attn_v_b.weight")};
  if (tensors.keys == nullptr) return std::nullopt;
  if (tensors.values == nullptr)
    refuse(checkpoint, *tensors.keys, "stands alone: '" + block + "attn_v_b.weight' is missing");
  return tensors;
}

TensorView split_heads_view(const CheckpointIndex& checkpoint, const SplitHeadTensors& tensors,
                            const ModelTensor& target, const LatentAttention& mixer) {
  SplitHeads split;
  split.keys = stacked_view(checkpoint, *tensors.keys, {mixer.heads, mixer.latent_rank, mixer.plain_dims});
  split.values =
      stacked_view(checkpoint, *tensors.values, {mixer.heads, mixer.value_dims, mixer.latent_rank});
  if (split.keys.dtype != split.values.dtype) {
    refuse(checkpoint, *tensors.values,
           "has values of dtype " + std::string(to_string(split.values.dtype)) + ", but '" +
               tensors.keys->name + "' of " + std::string(to_string(split.keys.dtype)));
  }
  split.keys_file = checkpoint.files[tensors.keys->file_index];
  split.values_file = checkpoint.files[tensors.values->file_index];
  split.plain_dims = mixer.plain_dims;
  split.value_dims = mixer.value_dims;
  TensorView view;
  view.name = tensors.keys->name;
  view.shape = target.shape;
  view.dtype = view.stored_dtype = split.keys.dtype;
  view.file_index = tensors.keys->file_index;
  view.row_stride = target.shape[1];
  view.split = std::make_shared<const SplitHeads>(std::move(split));
  return view;
}

}  // namespace sluice::format
