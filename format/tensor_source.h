#pragma once
// A view of a model's tensor in a released file, and the reader of such views: it gives blocks of rows,
// row-major and in the model's own order, as released values and as floats. Conversion, repair, export and
// the digests of tensors all read through it, so a layout has to be understood in one place only.
//
// Rejected: gathering a whole tensor first (a stacked w2 of Mixtral has 3.7 GB), and mapping the files (pages
// of a mapping count as the process's memory, and a file that is cut while mapped kills the process).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/tensor.h"

namespace sluice::format {

/// The scales of codes of FP8, int8 or 4 bits: a matrix in a file, with one scale for each block of row_block
/// x col_block weights; or the exponents of MXFP4 weights, one for 32 columns, in u8.
struct TensorScale {
  std::filesystem::path file;
  std::string name;
  Shape shape;  ///< of the whole tensor in the file
  DType dtype = DType::f32;
  std::uint64_t offset_bytes = 0;  ///< of scale [0, 0]
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  std::uint64_t row_stride = 0;  ///< in elements
  std::uint64_t col_stride = 0;
  std::uint64_t row_block = 1;      ///< rows of weights for each scale
  std::uint64_t col_block = 1;      ///< columns of weights for each scale
  std::uint64_t first_row = 0;      ///< the row of the scaled tensor at which the view begins
  std::uint64_t first_element = 0;  ///< MXFP4: the index of scale [0, 0] in the whole tensor
};

struct SplitHeads;

/// Where the rows and columns of one of the model's tensors lie. A vector is one row.
struct TensorView {
  std::string name;  ///< in the files
  Shape shape;       ///< one or two axes
  /// The type of the values as they are read: the released type, but bf16 for codes with scales, whose
  /// products are rounded to it (FP8, int8, and eight 4-bit codes in each i32), and f32 for GGUF's blocks.
  /// MXFP4 stays what it is (mx/mx_rows.h), whether its codes and exponents are two tensors, of which the
  /// codes are u8, or GGUF's blocks.
  DType dtype = DType::f32;
  DType stored_dtype = DType::f32;
  std::size_t file_index = 0;
  std::uint64_t offset_bytes = 0;  ///< of element [0, 0]
  std::uint64_t row_stride = 0;    ///< in elements
  std::uint64_t col_stride = 1;
  /// When not 0, the rows of a head (this many) are in transformers' order in the file: the first elements of
  /// all RoPE pairs, then the second ones. Row h * width + 2 i + j of the tensor is row h * width + j * width
  /// / 2 + i of the file.
  std::uint64_t rotary_width = 0;
  std::optional<TensorScale> scale;
  /// Where it is set, the rows are put together of two tensors, and the places above say nothing.
  std::shared_ptr<const SplitHeads> split;

  [[nodiscard]] std::uint64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  [[nodiscard]] std::uint64_t cols() const { return shape.back(); }
  [[nodiscard]] std::uint64_t value_bytes() const { return rows() * stored_bytes(dtype, cols()); }
  /// True when elements of a column lie closer together than those of a row.
  [[nodiscard]] bool is_transposed() const { return cols() == 1 || (rows() > 1 && row_stride < col_stride); }
};

/// The matrix that makes keys and values of latent attention in two tensors (gguf/gguf_split_heads.h). In the
/// matrix, the rows of a head's keys are followed by those of its values.
struct SplitHeads {
  TensorView keys;    ///< [heads x columns, plain dims]: the rows of each head's keys, transposed
  TensorView values;  ///< [heads x value dims, columns]
  std::filesystem::path keys_file;
  std::filesystem::path values_file;
  std::uint64_t plain_dims = 0;
  std::uint64_t value_dims = 0;
};

/// Reads a view from its file; both must outlive it. Thread-safe. In addition to the returned bytes, a read
/// takes less than 1 MiB of memory, or for FP8 and int8 half of the returned bytes, for 4-bit codes three
/// quarters, and at least one row of MXFP4.
class TensorSource {
 public:
  /// Reads the scales of FP8. Error{malformed} for one that is negative or not finite.
  TensorSource(const TensorView& view, const base::File& file);

  [[nodiscard]] std::uint64_t rows() const { return rows_; }
  [[nodiscard]] std::uint64_t cols() const { return cols_; }
  [[nodiscard]] std::uint64_t row_bytes() const { return row_bytes_; }

  /// Reads rows [first, first + count) of the values, row-major. Each byte is read about once; FP8's NaN, and
  /// MXFP4 that is NaN or beyond bf16, are Error{malformed}. Transposed views read a thousand rows at a time
  /// several times as fast as fifty.
  void read_rows(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const;
  /// Reads into memory of count * row_bytes() bytes.
  void read_rows(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;

  /// Converts bytes that read_rows gave, of a float dtype or MXFP4, to floats. NaN or infinity is
  /// Error{malformed} naming its place.
  void to_floats(base::Bytes bytes, std::uint64_t first_row, std::span<float> out) const;

 private:
  void read_scales(const TensorScale& scale);
  void read_stored(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_block(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_columns(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_line(std::uint64_t element, std::uint64_t step, base::MutableBytes out) const;
  struct Halves;

  void read_heads(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_keys(std::uint64_t head, std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_quantized(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_mxfp4(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void read_ggml_mxfp4(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const;
  void require_finite_mxfp4(std::uint64_t row, base::Bytes bytes) const;
  [[nodiscard]] std::vector<std::byte> read_codes(std::uint64_t first, std::uint64_t count) const;
  void decode(base::Bytes codes, std::uint64_t first_row, base::MutableBytes out) const;
  [[nodiscard]] std::uint64_t file_row(std::uint64_t row) const;

  const TensorView& view_;
  const base::File& file_;
  std::uint64_t rows_;
  std::uint64_t cols_;
  std::uint64_t stored_bytes_;  ///< bytes of an element in the file
  std::uint64_t row_bytes_;     ///< bytes of a row as it is read
  std::vector<float> scales_;   ///< row-major
  std::optional<base::File> exponents_file_;
  std::shared_ptr<const Halves> halves_;  ///< of a view with `split`
};

}  // namespace sluice::format
