#pragma once
// Matrices of compressed-tensors' format "pack-quantized" with symmetric 4-bit codes (Kimi K2.5): where a
// matrix `X.weight` is not in the files, three tensors stand for it.
//
//   X.weight_packed  i32 [rows, ceil(cols / 8)]    eight codes, the first in the lowest bits; code + 8
//   X.weight_scale   [rows, ceil(cols / group)]    one factor for each group of columns of a row
//   X.weight_shape   [2]                           rows and cols
//
// A weight is code x factor, rounded to bf16 like FP8 (docs/decisions/0026). Source:
// github.com/vllm-project/compressed-tensors, compressors/quantized_compressors/pack_quantized.py.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "format/checkpoint_index.h"
#include "format/tensor_names.h"
#include "format/tensor_source.h"

namespace sluice::format {

struct PackedInt4 {
  const CheckpointTensor* codes = nullptr;
  const CheckpointTensor* scale = nullptr;
  const CheckpointTensor* shape = nullptr;
};

/// Nothing unless the checkpoint has packed codes for the matrix `name`. Error{malformed} naming file and
/// tensor when its scales or its shape are missing.
[[nodiscard]] std::optional<PackedInt4> find_packed_int4(const CheckpointIndex& checkpoint,
                                                         std::string_view name);

/// The view of `target` in the matrix that `place` describes. Error{malformed} naming file and tensor for
/// other types and shapes; `params_name` is what the shapes follow from.
[[nodiscard]] TensorView packed_int4_view(const CheckpointIndex& checkpoint, const PackedInt4& packed,
                                          const ModelTensor& target, const Placement& place,
                                          std::string_view params_name);

/// Bytes of a row of packed codes.
[[nodiscard]] std::uint64_t packed_int4_row_bytes(std::uint64_t cols);
/// Takes rows of packed codes apart: one byte, 0 to 15, for each of `cols` codes of a row.
void unpack_int4(base::Bytes packed, std::uint64_t cols, base::MutableBytes codes);

}  // namespace sluice::format
