#include "runtime/matmul.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/invariant.h"
#include "runtime/onednn.h"

namespace sluice::runtime {
namespace {

// From so many rows on, a call of oneDNN costs less than it saves. measured: docs/decisions/0003
constexpr std::size_t kOnednnRowsMin = 16;

}  // namespace

PanelView Matrix::panel(std::size_t index) const {
  const std::size_t tiles = layout.panel_tiles;
  return {
      .codes = data + index * layout.panel_code_bytes,
      .magnitudes = data + layout.magnitudes_offset_bytes + index * tiles * format::kMagnitudeBytesPerTile,
      .signs = data + layout.signs_offset_bytes + index * tiles * format::kSignBytesPerTile,
      .row_scales =
          reinterpret_cast<const float*>(data + layout.row_scales_offset_bytes) + index * format::kPanelRows,
      .tiles = tiles,
  };
}

void Operand::reset(format::TileType type, std::size_t rows, std::size_t cols, std::size_t chunk_cols) {
  INVARIANT(cols % format::kTileCols == 0 && chunk_cols % format::kTileCols == 0);
  type_ = type;
  rows_ = rows;
  cols_ = cols;
  chunk_cols_ = chunk_cols;
  if (is_float()) {
    floats_.reserve(rows * cols);
    return;
  }
  const std::size_t chunks = base::divide_up(cols, chunk_cols);
  codes_.reserve(rows * cols);
  scales_.reserve(rows * chunks);
  chunk_sums_.reserve(rows * chunks);
  group_sums_.reserve(rows * cols / format::kGroupCols);
}

std::size_t Operand::chunk_width(std::size_t chunk) const {
  return std::min(chunk_cols_, cols_ - chunk * chunk_cols_);
}

void Operand::fill(const Kernels& kernels, std::size_t row, std::size_t first_col, std::size_t count,
                   const float* x) {
  if (is_float()) {
    std::memcpy(&floats_[row * cols_ + first_col], x, count * sizeof(float));
    return;
  }
  INVARIANT(first_col % chunk_cols_ == 0);
  for (std::size_t col = first_col; col < first_col + count; col += chunk_cols_) {
    const std::size_t chunk = col / chunk_cols_;
    const std::size_t width = chunk_width(chunk);
    chunk_sums_[chunk * rows_ + row] = kernels.quantize_chunk(
        x + (col - first_col), width, &codes_[col * rows_ + row * width], &scales_[chunk * rows_ + row],
        &group_sums_[col / format::kGroupCols * rows_ + row], rows_);
  }
}

void Operand::copy_row(std::size_t row, const Operand& source, std::size_t source_row) {
  INVARIANT(is_float() == source.is_float() && cols_ == source.cols_ && chunk_cols_ == source.chunk_cols_);
  if (is_float()) {
    std::memcpy(&floats_[row * cols_], &source.floats_[source_row * cols_], cols_ * sizeof(float));
    return;
  }
  for (std::size_t col = 0; col < cols_; col += chunk_cols_) {
    const std::size_t chunk = col / chunk_cols_;
    const std::size_t width = chunk_width(chunk);
    std::memcpy(&codes_[col * rows_ + row * width], &source.codes_[col * source.rows_ + source_row * width],
                width);
    scales_[chunk * rows_ + row] = source.scales_[chunk * source.rows_ + source_row];
    chunk_sums_[chunk * rows_ + row] = source.chunk_sums_[chunk * source.rows_ + source_row];
  }
  for (std::size_t group = 0; group < cols_ / format::kGroupCols; ++group)
    group_sums_[group * rows_ + row] = source.group_sums_[group * source.rows_ + source_row];
}

QuantizedView Operand::quantized() const {
  return {
      .codes = codes_.data(),
      .scales = scales_.data(),
      .group_sums = group_sums_.data(),
      .chunk_sums = chunk_sums_.data(),
      .rows = rows_,
      .cols = cols_,
      .chunk_cols = chunk_cols_,
  };
}

// A slice through oneDNN: per chunk of inputs the weights are laid out as one dense B matrix (unpacked for
// q4, copied for q8), multiplied with all rows in blocks, and the s32 results added up as floats in the same
// order as our own kernels do.
class MatmulWorker::Onednn {
 public:
  explicit Onednn(const Kernels& kernels) : kernels_(kernels) {}

  void multiply(const Matrix& matrix, const Operand& operand, std::size_t first_panel, std::size_t panels,
                float* out, std::size_t out_stride) {
    const QuantizedView x = operand.quantized();
    const std::size_t width = panels * format::kPanelRows;
    tiles_.reserve(x.chunk_cols * width);
    bias_.reserve(width);
    sums_.reserve(kOnednnRowsMax * width);
    source_.reserve(kOnednnRowsMax * x.chunk_cols);
    for (std::size_t row = 0; row < x.rows; ++row) std::fill_n(out + row * out_stride, width, 0.0f);

    for (std::size_t first_col = 0; first_col < x.cols; first_col += x.chunk_cols) {
      const std::size_t cols = std::min(x.chunk_cols, x.cols - first_col);
      load_weights(matrix, first_panel, panels, first_col, cols);
      for (std::size_t row = 0; row < x.rows; row += kOnednnRowsMax) {
        const std::size_t rows = std::min(kOnednnRowsMax, x.rows - row);
        load_rows(x, first_col, cols, row, rows);
        gemm_.multiply(rows, cols, width, source_.data(), tiles_.data(), sums_.data());
        const float* scales = x.scales + first_col / x.chunk_cols * x.rows + row;
        for (std::size_t r = 0; r < rows; ++r)
          kernels_.accumulate(&sums_[r * width], bias_.data(), scales[r], out + (row + r) * out_stride,
                              width);
      }
    }
    const float* row_scales = matrix.panel(first_panel).row_scales;
    for (std::size_t row = 0; row < x.rows; ++row)
      kernels_.multiply(row_scales, width, out + row * out_stride);
  }

 private:
  void load_weights(const Matrix& matrix, std::size_t first_panel, std::size_t panels, std::size_t first_col,
                    std::size_t cols) {
    const std::size_t tiles = cols / format::kTileCols;
    const std::size_t first_tile = first_col / format::kTileCols;
    for (std::size_t p = 0; p < panels; ++p) {
      const PanelView panel = matrix.panel(first_panel + p);
      std::int8_t* out = &tiles_[p * cols * format::kPanelRows];
      if (matrix.layout.type == format::TileType::q4) {
        kernels_.unpack_q4(panel, first_tile, tiles, out);
      } else {
        std::memcpy(out, panel.codes + first_tile * format::kQ8TileBytes, tiles * format::kQ8TileBytes);
      }
      kernels_.bias_sums(out, tiles, &bias_[p * format::kPanelRows]);
    }
  }

  // oneDNN's fast kernels take u8: the codes plus 128. bias_sums takes that off again.
  void load_rows(const QuantizedView& x, std::size_t first_col, std::size_t cols, std::size_t first_row,
                 std::size_t rows) {
    const std::int8_t* codes = x.codes + first_col * x.rows + first_row * cols;
    for (std::size_t i = 0; i < rows * cols; ++i) source_[i] = static_cast<std::uint8_t>(codes[i] + 128);
  }

  const Kernels& kernels_;
  OnednnGemm gemm_;
  Buffer<std::int8_t> tiles_;    // [panel][tile][4096]: BA16a64b4a of cols x width
  Buffer<std::int32_t> bias_;    // [width]
  Buffer<std::int32_t> sums_;    // [row][width]
  Buffer<std::uint8_t> source_;  // [row][cols]
};

MatmulWorker::MatmulWorker(const Kernels& kernels, bool use_onednn)
    : kernels_(&kernels), onednn_(use_onednn ? std::make_unique<Onednn>(kernels) : nullptr) {}
MatmulWorker::~MatmulWorker() = default;
MatmulWorker::MatmulWorker(MatmulWorker&&) noexcept = default;

void MatmulWorker::multiply(const Matrix& matrix, const Operand& x, std::size_t first_panel,
                            std::size_t panels, float* out, std::size_t out_stride) {
  INVARIANT(panels <= kSlicePanels && x.cols() == matrix.layout.padded_cols);
  const format::TileType type = matrix.layout.type;
  INVARIANT(x.is_float() == (type == format::TileType::bf16));
  if (onednn_ && type != format::TileType::bf16 && x.rows() >= kOnednnRowsMin) {
    onednn_->multiply(matrix, x, first_panel, panels, out, out_stride);
    return;
  }
  for (std::size_t p = 0; p < panels; ++p) {
    const PanelView panel = matrix.panel(first_panel + p);
    float* panel_out = out + p * format::kPanelRows;
    switch (type) {
      case format::TileType::bf16:
        kernels_->multiply_bf16(panel, x.floats(), x.rows(), x.cols(), panel_out, out_stride);
        break;
      case format::TileType::q8: kernels_->multiply_q8(panel, x.quantized(), panel_out, out_stride); break;
      case format::TileType::q4: kernels_->multiply_q4(panel, x.quantized(), panel_out, out_stride); break;
    }
  }
}

std::size_t slice_panels(std::size_t panels_total, std::size_t workers, std::size_t multiple) {
  const std::size_t even = panels_total / (workers * 4) / multiple * multiple;
  return std::clamp(even, multiple, kSlicePanels);
}

}  // namespace sluice::runtime
