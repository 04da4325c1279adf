#pragma once
// Matrix products of the forward pass: [rows of activations] x [weights in tiles].
//
// A product is cut into slices of whole panels (64 outputs), which workers take as tasks. A slice computes
// all its rows; nothing is summed across slices, so the bits do not depend on how work was shared out.

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "format/tile.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/kernels.h"

namespace sluice::runtime {

/// A weight matrix [rows = outputs, cols = inputs] whose tiles are in mapped memory.
struct Matrix {
  format::TileLayout layout;
  const std::byte* data;
  /// [outputs], in mapped memory like the tiles; null where the matrix has none. multiply() leaves it out.
  const float* bias = nullptr;

  [[nodiscard]] PanelView panel(std::size_t index) const;
};

/// A batch of activation rows, prepared once for all matrices that are multiplied by it. For bf16 matrices
/// the rows are f32, with a rounded copy in bf16; for the other types they are s8 codes in chunks. This is a
/// view of memory of an InputRowsBuffer.
class InputRows {
 public:
  [[nodiscard]] std::size_t rows() const { return rows_; }
  [[nodiscard]] std::size_t cols() const { return cols_; }
  [[nodiscard]] std::size_t chunk_cols() const { return chunk_cols_; }

  /// Fills columns [first_col, first_col + count) of one row, which are whole chunks. Different threads may
  /// fill different rows or columns.
  void fill(const Kernels& kernels, std::size_t row, std::size_t first_col, std::size_t count,
            const float* x) const;

  /// Copies row `source_row` of an input of the same width and kind.
  void copy_row(std::size_t row, const InputRows& source, std::size_t source_row) const;

  [[nodiscard]] QuantizedView quantized() const;
  /// Whether this holds f32 rows for bf16 matrices. Otherwise it holds integers, for all other types alike.
  [[nodiscard]] bool is_float() const { return type_ == format::TileType::bf16; }
  [[nodiscard]] const float* floats() const { return floats_; }  ///< [row][cols]
  /// The floats rounded to bf16, [row][cols].
  [[nodiscard]] const std::uint16_t* bf16() const { return bf16_; }

 private:
  friend class InputRowsBuffer;
  InputRows() = default;
  [[nodiscard]] std::size_t chunk_width(std::size_t chunk) const;

  format::TileType type_ = format::TileType::bf16;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t chunk_cols_ = 0;
  float* floats_ = nullptr;
  std::uint16_t* bf16_ = nullptr;
  // The arrays of QuantizedView.
  std::int8_t* codes_ = nullptr;
  float* scales_ = nullptr;
  std::int32_t* group_sums_ = nullptr;
  std::int32_t* chunk_sums_ = nullptr;
};

/// Memory for input rows of one width.
class InputRowsBuffer {
 public:
  /// Makes an input with `rows` rows, in the memory of earlier ones. cols is padded to 64. This allocates
  /// only when there were never as many rows of that kind.
  InputRows reset(format::TileType type, std::size_t rows, std::size_t cols, std::size_t chunk_cols);

  /// A separate input in the memory of rows [first, first + count) of the last reset(). Input rows with
  /// different rows share no memory, and input rows of floats share none with input rows of integers.
  [[nodiscard]] InputRows rows(format::TileType type, std::size_t first, std::size_t count);

  /// The input of the last reset().
  [[nodiscard]] InputRows current() { return rows(type_, 0, rows_); }

 private:
  format::TileType type_ = format::TileType::bf16;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t chunk_cols_ = 64;
  Buffer<float> floats_;
  Buffer<std::uint16_t> bf16_;
  Buffer<std::int8_t> codes_;
  Buffer<float> scales_;
  Buffer<std::int32_t> group_sums_;
  Buffer<std::int32_t> chunk_sums_;
};

constexpr std::size_t kSlicePanels = 4;  ///< the largest number of panels of a task

/// Computes out[row][n - 64 * first_panel] for the panels [first_panel, first_panel + panels), at most
/// kSlicePanels. Rows of `out` are out_stride floats apart.
void multiply(const Kernels& kernels, const Matrix& matrix, const InputRows& x, std::size_t first_panel,
              std::size_t panels, float* out, std::size_t out_stride);

/// Adds the bias to such a slice of `rows` rows, where the matrix has one. The bits do not depend on slices.
void add_bias(const Matrix& matrix, std::size_t rows, std::size_t first_panel, std::size_t panels, float* out,
              std::size_t out_stride);

/// The number of panels of a task that gives `workers` even work: a multiple of `multiple`, from `multiple`
/// to kSlicePanels.
[[nodiscard]] std::size_t slice_panels(std::size_t panels_total, std::size_t workers,
                                       std::size_t multiple = 1);

}  // namespace sluice::runtime
