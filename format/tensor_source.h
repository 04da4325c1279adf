#pragma once
// A model's tensor as it lies in a released file, and the one reader of it: blocks of rows, row-major and in
// the model's own order, as released values and as floats. Conversion, repair and the digests of tensors all
// read through it, so that a layout that is understood once is understood everywhere.
//
// Rejected: gathering a whole tensor first (a stacked w2 of Mixtral is 3.7 GB), and mapping the files (what a
// mapping touches counts as the process's memory, and a file that is cut while mapped ends the process).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/tensor.h"

namespace sluice::format {

/// The scales of FP8 weights: one a block of row_block x col_block weights, themselves a matrix in a file.
struct TensorScale {
  std::filesystem::path file;
  std::string name;
  DType dtype = DType::f32;
  std::uint64_t offset_bytes = 0;  ///< of scale [0, 0]
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  std::uint64_t row_stride = 0;  ///< in elements
  std::uint64_t col_stride = 0;
  std::uint64_t row_block = 1;  ///< weights a scale
  std::uint64_t col_block = 1;
  std::uint64_t first_row = 0;  ///< of the scaled tensor, at which the view begins
};

/// Where the rows and columns of one of the model's tensors lie. A vector is one row.
struct TensorView {
  std::string name;  ///< in the files
  Shape shape;       ///< of one or two axes
  /// Of the values as they are read: as released, but f32 where a scale makes them of codes.
  DType dtype = DType::f32;
  DType stored_dtype = DType::f32;
  std::size_t file_index = 0;
  std::uint64_t offset_bytes = 0;  ///< of element [0, 0]
  std::uint64_t row_stride = 0;    ///< in elements
  std::uint64_t col_stride = 1;
  /// When not 0: heads of so many rows stand with the first halves of their RoPE pairs before the second
  /// ones. Row h * width + 2 i + j of the tensor is row h * width + j * width / 2 + i of the file.
  std::uint64_t rotary_width = 0;
  std::optional<TensorScale> scale;

  [[nodiscard]] std::uint64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  [[nodiscard]] std::uint64_t cols() const { return shape.back(); }
  [[nodiscard]] std::uint64_t value_bytes() const { return rows() * cols() * size_bytes(dtype); }
  /// Elements of a column lie closer together than those of a row.
  [[nodiscard]] bool is_transposed() const { return cols() == 1 || (rows() > 1 && row_stride < col_stride); }
};

/// Reads a view out of its file, both of which must outlive it. Thread-safe. Beside what it returns it takes
/// less than a MiB, or a quarter of it where values have scales.
class TensorSource {
 public:
  /// Reads the scales, if there are any. Error{malformed} for one that is negative or not finite.
  TensorSource(const TensorView& view, const base::File& file);

  [[nodiscard]] std::uint64_t rows() const { return rows_; }
  [[nodiscard]] std::uint64_t cols() const { return cols_; }
  [[nodiscard]] std::uint64_t row_bytes() const { return cols_ * value_bytes_; }

  /// Rows [first, first + count) of the values, row-major. Each byte of them is read about once; FP8's NaN is
  /// Error{malformed}. Of transposed views a thousand rows at a time are read several times as fast as fifty.
  void read_rows(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const;
  /// The same into memory of count * row_bytes().
  void read_rows(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;

  /// The values of `bytes` as read_rows gave them, of a float dtype. A NaN or infinity is Error{malformed}
  /// naming its place.
  void to_floats(base::Bytes bytes, std::uint64_t first_row, std::span<float> out) const;

 private:
  void read_scales(const TensorScale& scale);
  void read_stored(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_block(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_columns(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_line(std::uint64_t element, std::uint64_t step, base::MutableBytes out) const;
  void read_quantized(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void decode(base::Bytes codes, std::uint64_t first_row, base::MutableBytes out) const;
  [[nodiscard]] std::uint64_t file_row(std::uint64_t row) const;

  const TensorView& view_;
  const base::File& file_;
  std::uint64_t rows_;
  std::uint64_t cols_;
  std::uint64_t stored_bytes_;  ///< an element, in the file
  std::uint64_t value_bytes_;   ///< an element, as read
  std::vector<float> scales_;   ///< row-major
};

}  // namespace sluice::format
