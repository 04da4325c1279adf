#include "convert/tensor_source.h"

#include <cmath>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::convert {

using format::DType;

TensorSource::TensorSource(const format::CheckpointTensor& tensor, const base::File& file)
    : tensor_(tensor),
      file_(file),
      rows_(tensor.shape.size() == 2 ? tensor.shape[0] : 1),
      cols_(tensor.shape.back()),
      row_stride_(tensor.shape.size() == 2 ? tensor.strides[0] : 0),
      col_stride_(tensor.strides.back()),
      element_bytes_(format::size_bytes(tensor.dtype)) {
  INVARIANT(tensor.shape.size() == 1 || tensor.shape.size() == 2);
  if (tensor.dtype != DType::bf16 && tensor.dtype != DType::f16 && tensor.dtype != DType::f32) {
    base::throw_malformed(file.path().string(), "tensor '" + tensor.name + "': has dtype " +
                                                    std::string(format::to_string(tensor.dtype)) +
                                                    ", expected bf16, f16 or f32");
  }
}

void TensorSource::read_rows(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const {
  out.resize(static_cast<std::size_t>(count * row_bytes()));
  const bool dense = col_stride_ == 1 && (rows_ == 1 || row_stride_ == cols_);
  if (dense) {
    file_.read_exact_at(tensor_.offset_bytes + first * row_bytes(), out);
  } else {
    gather(first, count, out);
  }
}

// Reads along whichever axis has the smaller step, so that a transposed tensor is read by its columns, and
// picks out the elements.
void TensorSource::gather(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const {
  const bool by_rows = rows_ == 1 || col_stride_ <= row_stride_;
  const std::uint64_t lines = by_rows ? count : cols_;
  const std::uint64_t line_length = by_rows ? cols_ : count;
  const std::uint64_t step = by_rows ? col_stride_ : row_stride_;
  std::vector<std::byte> line(static_cast<std::size_t>(((line_length - 1) * step + 1) * element_bytes_));
  for (std::uint64_t l = 0; l < lines; ++l) {
    const std::uint64_t element = by_rows ? (first + l) * row_stride_ : first * row_stride_ + l * col_stride_;
    file_.read_exact_at(tensor_.offset_bytes + element * element_bytes_, line);
    for (std::uint64_t i = 0; i < line_length; ++i) {
      const std::uint64_t target = by_rows ? l * cols_ + i : i * cols_ + l;
      std::memcpy(&out[static_cast<std::size_t>(target * element_bytes_)],
                  &line[static_cast<std::size_t>(i * step * element_bytes_)], element_bytes_);
    }
  }
}

void TensorSource::to_floats(base::Bytes bytes, std::uint64_t first_row, std::span<float> out) const {
  INVARIANT(bytes.size() == out.size() * element_bytes_);
  const std::byte* source = bytes.data();
  switch (tensor_.dtype) {
    case DType::f32: std::memcpy(out.data(), source, bytes.size()); break;
    case DType::bf16:
    case DType::f16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        std::uint16_t bits;
        std::memcpy(&bits, source + 2 * i, sizeof(bits));
        out[i] = tensor_.dtype == DType::bf16 ? format::bf16_to_f32(bits) : format::f16_to_f32(bits);
      }
      break;
    default: INVARIANT(!"the constructor refuses other dtypes");
  }
  // Larger f32 values would become infinity in bf16.
  constexpr float kBf16Max = 0x1.FEp127f;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::fabs(out[i]) <= kBf16Max) continue;
    base::throw_malformed(file_.path().string(), "tensor '" + tensor_.name + "': has " +
                                                     (std::isnan(out[i])   ? "NaN"
                                                      : std::isinf(out[i]) ? "infinity"
                                                                           : "a value beyond bf16") +
                                                     " at [" + std::to_string(first_row + i / cols_) + ", " +
                                                     std::to_string(i % cols_) + "]");
  }
}

}  // namespace sluice::convert
