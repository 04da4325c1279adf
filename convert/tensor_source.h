#pragma once
// Reads a checkpoint's tensors in blocks of rows: the released bytes in row-major order, and the same as
// floats.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/checkpoint_index.h"

namespace sluice::convert {

/// A tensor as rows: [rows, cols], a vector being one row. Thread-safe.
class TensorSource {
 public:
  /// Error{malformed} for a dtype that is no float.
  TensorSource(const format::CheckpointTensor& tensor, const base::File& file);

  [[nodiscard]] std::uint64_t rows() const { return rows_; }
  [[nodiscard]] std::uint64_t cols() const { return cols_; }
  [[nodiscard]] std::uint64_t row_bytes() const { return cols_ * element_bytes_; }

  /// Rows [first, first + count), row-major in the released dtype. Strides are honoured.
  void read_rows(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const;

  /// The values of `bytes` as read_rows gave them. A NaN or infinity is Error{malformed} naming its place.
  void to_floats(base::Bytes bytes, std::uint64_t first_row, std::span<float> out) const;

 private:
  void gather(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const;

  const format::CheckpointTensor& tensor_;
  const base::File& file_;
  std::uint64_t rows_;
  std::uint64_t cols_;
  std::uint64_t row_stride_;
  std::uint64_t col_stride_;
  std::uint64_t element_bytes_;
};

}  // namespace sluice::convert
