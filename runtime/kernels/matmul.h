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

/// A weight matrix [rows = outputs, cols = inputs] in the container's mapping.
struct Matrix {
  format::TileLayout layout;
  const std::byte* data;

  [[nodiscard]] PanelView panel(std::size_t index) const;
};

/// What a product reads: a batch of activation rows, prepared once for all matrices that read it. For bf16
/// matrices f32 rows; for the others rows of s8 codes in chunks. A view of memory of an OperandBuffer.
class Operand {
 public:
  [[nodiscard]] std::size_t rows() const { return rows_; }
  [[nodiscard]] std::size_t cols() const { return cols_; }
  [[nodiscard]] std::size_t chunk_cols() const { return chunk_cols_; }

  /// Fills columns [first_col, first_col + count) of one row; whole chunks. Different rows or columns may be
  /// filled by different threads.
  void fill(const Kernels& kernels, std::size_t row, std::size_t first_col, std::size_t count,
            const float* x) const;

  /// Copies row `source_row` of an operand of the same width and kind.
  void copy_row(std::size_t row, const Operand& source, std::size_t source_row) const;

  [[nodiscard]] QuantizedView quantized() const;
  /// f32 rows, for bf16 matrices; else integers, for all other types alike.
  [[nodiscard]] bool is_float() const { return type_ == format::TileType::bf16; }
  [[nodiscard]] const float* floats() const { return floats_; }  ///< [row][cols]

 private:
  friend class OperandBuffer;
  Operand() = default;
  [[nodiscard]] std::size_t chunk_width(std::size_t chunk) const;

  format::TileType type_ = format::TileType::bf16;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t chunk_cols_ = 0;
  float* floats_ = nullptr;
  // As in QuantizedView.
  std::int8_t* codes_ = nullptr;
  float* scales_ = nullptr;
  std::int32_t* group_sums_ = nullptr;
  std::int32_t* chunk_sums_ = nullptr;
};

/// Memory for operands of one width.
class OperandBuffer {
 public:
  /// One with `rows` rows, on the memory of those before. cols is padded to 64. Allocates where there were
  /// never as many rows of that kind.
  Operand reset(format::TileType type, std::size_t rows, std::size_t cols, std::size_t chunk_cols);

  /// An operand of its own on the memory of rows [first, first + count) of a reset() of that kind, of the
  /// last one's width; such operands share nothing where their rows do not, nor where one is of floats, one
  /// not.
  [[nodiscard]] Operand rows(format::TileType type, std::size_t first, std::size_t count);

  /// The operand of the last reset().
  [[nodiscard]] Operand current() { return rows(type_, 0, rows_); }

 private:
  format::TileType type_ = format::TileType::bf16;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t chunk_cols_ = 64;
  Buffer<float> floats_;
  Buffer<std::int8_t> codes_;
  Buffer<float> scales_;
  Buffer<std::int32_t> group_sums_;
  Buffer<std::int32_t> chunk_sums_;
};

constexpr std::size_t kSlicePanels = 4;  ///< most panels of a task

/// out[row][n - 64 * first_panel] for the panels [first_panel, first_panel + panels), at most kSlicePanels;
/// rows of `out` are out_stride floats apart.
void multiply(const Kernels& kernels, const Matrix& matrix, const Operand& x, std::size_t first_panel,
              std::size_t panels, float* out, std::size_t out_stride);

/// Panels a task should have so that `workers` have work evenly.
[[nodiscard]] std::size_t slice_panels(std::size_t panels_total, std::size_t workers,
                                       std::size_t multiple = 1);

}  // namespace sluice::runtime
