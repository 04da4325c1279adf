#include "format/packed_int4.h"

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kCodesPerWord = 8;

[[noreturn]] void refuse(const CheckpointIndex& checkpoint, const CheckpointTensor& tensor,
                         const std::string& cause) {
  base::throw_malformed(checkpoint.files[tensor.file_index].string(),
                        "tensor '" + tensor.name + "': " + cause);
}

void require_dtype(const CheckpointIndex& checkpoint, const CheckpointTensor& tensor, bool accepted,
                   std::string_view expected) {
  if (accepted) return;
  refuse(checkpoint, tensor,
         "has dtype " + std::string(to_string(tensor.dtype)) + ", expected " + std::string(expected));
}

void require_shape(const CheckpointIndex& checkpoint, const CheckpointTensor& tensor, const Shape& expected,
                   std::string_view params_name) {
  if (tensor.shape == expected) return;
  refuse(checkpoint, tensor,
         "has shape " + to_string(tensor.shape) + ", " + std::string(params_name) + " asks for " +
             to_string(expected));
}

/// Columns that share a factor, which follow from the number of factors: groups of 32, 64 or 128, or a whole
/// row. No two of these give the same number unless they mean the same.
std::uint64_t group_of(const CheckpointIndex& checkpoint, const CheckpointTensor& scale, std::uint64_t rows,
                       std::uint64_t cols) {
  if (scale.shape == Shape{rows, 1}) return cols;
  for (const std::uint64_t group : {32, 64, 128})
    if (scale.shape == Shape{rows, base::divide_up(cols, group)}) return group;
  refuse(checkpoint, scale,
         "has shape " + to_string(scale.shape) + ", expected " +
             to_string({rows, base::divide_up(cols, std::uint64_t{32})}) +
             ", one factor for 32 columns, or for 64, 128 or a whole row");
}

TensorScale scale_of(const CheckpointIndex& checkpoint, const CheckpointTensor& source,
                     const Placement& place) {
  const std::uint64_t rows = place.shape[0];
  const std::uint64_t cols = place.shape[1];
  TensorScale scale;
  scale.file = checkpoint.files[source.file_index];
  scale.name = source.name;
  scale.dtype = source.dtype;
  scale.offset_bytes = source.offset_bytes;
  scale.rows = rows;
  scale.col_block = group_of(checkpoint, source, rows, cols);
  scale.cols = base::divide_up(cols, scale.col_block);
  scale.row_stride = scale.cols;
  scale.col_stride = 1;
  scale.first_row = place.first_row;
  return scale;
}

}  // namespace

std::optional<PackedInt4> find_packed_int4(const CheckpointIndex& checkpoint, std::string_view name) {
  if (!name.ends_with(".weight")) return std::nullopt;
  const std::string weight(name);
  PackedInt4 packed;
  packed.codes = checkpoint.find(weight + "_packed");
  if (packed.codes == nullptr) return std::nullopt;
  packed.scale = checkpoint.find(weight + "_scale");
  packed.shape = checkpoint.find(weight + "_shape");
  if (packed.scale == nullptr)
    refuse(checkpoint, *packed.codes, "has no scale: '" + weight + "_scale' is missing");
  if (packed.shape == nullptr)
    refuse(checkpoint, *packed.codes, "has no shape: '" + weight + "_shape' is missing");
  return packed;
}

TensorView packed_int4_view(const CheckpointIndex& checkpoint, const PackedInt4& packed,
                            const ModelTensor& target, const Placement& place, std::string_view params_name) {
  const CheckpointTensor& codes = *packed.codes;
  const DType scale_type = packed.scale->dtype;
  require_dtype(checkpoint, codes, codes.dtype == DType::i32, "i32");
  require_dtype(checkpoint, *packed.scale,
                scale_type == DType::bf16 || scale_type == DType::f16 || scale_type == DType::f32,
                "bf16, f16 or f32");
  const DType shape_type = packed.shape->dtype;
  require_dtype(checkpoint, *packed.shape, shape_type == DType::i64 || shape_type == DType::i32,
                "i64 or i32");
  if (place.shape.size() != 2 || place.transposed || place.outer_index || place.rotary_width != 0)
    refuse(checkpoint, codes, "holds packed 4-bit codes, which is not supported there");
  const std::uint64_t cols = place.shape[1];
  require_shape(checkpoint, codes, {place.shape[0], base::divide_up(cols, kCodesPerWord)}, params_name);
  require_shape(checkpoint, *packed.shape, {2}, params_name);
  for (const CheckpointTensor* tensor : {packed.codes, packed.scale})
    if (!tensor->row_major()) refuse(checkpoint, *tensor, "does not lie in one piece");
  TensorView view;
  view.name = codes.name;
  view.shape = target.shape;
  view.dtype = DType::bf16;
  view.stored_dtype = DType::i32;
  view.file_index = codes.file_index;
  view.offset_bytes = codes.offset_bytes + place.first_row * packed_int4_row_bytes(cols);
  view.row_stride = codes.shape[1];
  view.scale = scale_of(checkpoint, *packed.scale, place);
  return view;
}

std::uint64_t packed_int4_row_bytes(std::uint64_t cols) {
  return base::divide_up(cols, kCodesPerWord) * sizeof(std::uint32_t);
}

void unpack_int4(base::Bytes packed, std::uint64_t cols, base::MutableBytes codes) {
  const std::uint64_t row_bytes = packed_int4_row_bytes(cols);
  INVARIANT(packed.size() / row_bytes * cols == codes.size());
  for (std::size_t at = 0, row = 0; at < codes.size(); at += cols, row += row_bytes) {
    // Little-endian words have their codes in the order of their bytes, low half first.
    for (std::size_t col = 0; col < cols; ++col) {
      const auto both = std::to_integer<unsigned>(packed[row + col / 2]);
      codes[at + col] = static_cast<std::byte>(col % 2 == 0 ? both & 15 : both >> 4);
    }
  }
}

}  // namespace sluice::format
