// Rows of activations in the form in which kernels read them, and the call of a kernel for one slice of a
// product.
//
// Integer rows are stored chunk by chunk, not row by row: [chunk][row][chunk_cols]. A kernel walks through
// the inputs and multiplies a chunk of several rows with the same weights, so what it needs at the same time
// is adjacent. The first value of chunk c therefore lies at c * chunk_cols * rows, however many rows there
// are.

#include "runtime/kernels/products.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::runtime {

// Kernel files include no header of the format, so kernels.h repeats its numbers.
static_assert(kQ8GroupBytes * format::kGroupsPerTile == format::kQ8TileBytes);
static_assert(kQ6GroupBytes * format::kGroupsPerTile == format::kQ6TileBytes);
static_assert(kQ4GroupBytes * format::kGroupsPerTile == format::kQ4TileBytes);
static_assert(kQ6MagnitudeBytes * format::kGroupsPerTile == format::kQ6MagnitudeBytesPerTile);
static_assert(kQ4MagnitudeBytes * format::kGroupsPerTile == format::kMagnitudeBytesPerTile);
static_assert(kQ4SignBytes * format::kGroupsPerTile == format::kSignBytesPerTile);
static_assert(kQ6PairBytes == format::kQ6PairBytes && 2 * kQ6PairBytes == kQ6GroupBytes);
static_assert(kMx4BlockCols == format::kMx4BlockCols && kMx4BlockCols == kChunkColsMin);
static_assert(2 * kMx4BlockBytes == format::kMx4TileBytes);
static_assert(2 * kMx4ExponentBytes == format::kExponentBytesPerTile);
static_assert(2 * kQ4PairBytes == kQ4GroupBytes && 4 * kQuadBytes == kQ8GroupBytes);

namespace {

// What multiplies the outputs of mx4, whose codes stand for twice their values.
constexpr std::array<float, format::kPanelRows> kHalves = [] {
  std::array<float, format::kPanelRows> halves{};
  halves.fill(0.5f);
  return halves;
}();

}  // namespace

PanelView Matrix::panel(std::size_t index) const {
  return {
      .codes = data + index * layout.panel_code_bytes,
      .magnitudes = data + layout.magnitudes_offset_bytes + index * layout.panel_magnitude_bytes(),
      .signs = data + layout.signs_offset_bytes + index * layout.panel_sign_bytes(),
      .exponents = data + layout.exponents_offset_bytes + index * layout.panel_exponent_bytes(),
      .row_scales = layout.type == format::TileType::mx4
                        ? kHalves.data()
                        : reinterpret_cast<const float*>(data + layout.row_scales_offset_bytes) +
                              index * format::kPanelRows,
      .tiles = layout.panel_tiles,
  };
}

InputRows InputRowsBuffer::reset(format::TileType type, std::size_t rows, std::size_t cols,
                                 std::size_t chunk_cols) {
  INVARIANT(cols % format::kTileCols == 0 && chunk_cols % kChunkColsMin == 0);
  INVARIANT(chunk_cols > 0 && chunk_cols <= kChunkColsMax);
  type_ = type;
  rows_ = rows;
  cols_ = cols;
  chunk_cols_ = chunk_cols;
  if (type == format::TileType::bf16) {
    // Rounded rows are kept next to the floats, whichever of both the products read: the choice between
    // oneDNN and the own kernels depends on the number of rows of each product.
    floats_.reserve(rows * cols);
    bf16_.reserve(rows * cols);
  } else {
    const std::size_t chunks = base::divide_up(cols, chunk_cols);
    codes_.reserve(rows * cols);
    scales_.reserve(rows * chunks);
    chunk_sums_.reserve(rows * chunks);
    group_sums_.reserve(rows * cols / format::kGroupCols);
  }
  return this->rows(type, 0, rows);
}

InputRows InputRowsBuffer::rows(format::TileType type, std::size_t first, std::size_t count) {
  InputRows input;
  input.type_ = type;
  input.rows_ = count;
  input.cols_ = cols_;
  input.chunk_cols_ = chunk_cols_;
  if (input.is_float()) {
    INVARIANT((first + count) * cols_ <= floats_.capacity());
    input.floats_ = floats_.data() + first * cols_;
    input.bf16_ = bf16_.data() + first * cols_;
  } else {
    INVARIANT((first + count) * cols_ <= codes_.capacity());
    const std::size_t chunks = base::divide_up(cols_, chunk_cols_);
    input.codes_ = codes_.data() + first * cols_;
    input.scales_ = scales_.data() + first * chunks;
    input.chunk_sums_ = chunk_sums_.data() + first * chunks;
    input.group_sums_ = group_sums_.data() + first * cols_ / format::kGroupCols;
  }
  return input;
}

std::size_t InputRows::chunk_width(std::size_t chunk) const {
  return std::min(chunk_cols_, cols_ - chunk * chunk_cols_);
}

void InputRows::fill(const Kernels& kernels, std::size_t row, std::size_t first_col, std::size_t count,
                     const float* x) const {
  if (is_float()) {
    std::memcpy(&floats_[row * cols_ + first_col], x, count * sizeof(float));
    kernels.to_bf16(x, count, &bf16_[row * cols_ + first_col]);
    return;
  }
  // A chunk is quantized as a whole: its scale depends on its largest value. So threads that fill one row
  // together must share it out in whole chunks.
  INVARIANT(first_col % chunk_cols_ == 0);
  for (std::size_t col = first_col; col < first_col + count; col += chunk_cols_) {
    const std::size_t chunk = col / chunk_cols_;
    const std::size_t width = chunk_width(chunk);
    chunk_sums_[chunk * rows_ + row] = kernels.quantize_chunk(
        x + (col - first_col), width, &codes_[col * rows_ + row * width], &scales_[chunk * rows_ + row],
        &group_sums_[col / format::kGroupCols * rows_ + row], rows_);
  }
}

void InputRows::copy_row(std::size_t row, const InputRows& source, std::size_t source_row) const {
  INVARIANT(is_float() == source.is_float() && cols_ == source.cols_ && chunk_cols_ == source.chunk_cols_);
  if (is_float()) {
    std::memcpy(&floats_[row * cols_], &source.floats_[source_row * cols_], cols_ * sizeof(float));
    std::memcpy(&bf16_[row * cols_], &source.bf16_[source_row * cols_], cols_ * sizeof(std::uint16_t));
    return;
  }
  for (std::size_t col = 0; col < cols_; col += chunk_cols_) {
    const std::size_t chunk = col / chunk_cols_;
    const std::size_t width = chunk_width(chunk);
    // Chunk by chunk, since the two inputs have different numbers of rows and so different strides.
    std::memcpy(&codes_[col * rows_ + row * width], &source.codes_[col * source.rows_ + source_row * width],
                width);
    scales_[chunk * rows_ + row] = source.scales_[chunk * source.rows_ + source_row];
    chunk_sums_[chunk * rows_ + row] = source.chunk_sums_[chunk * source.rows_ + source_row];
  }
  for (std::size_t group = 0; group < cols_ / format::kGroupCols; ++group)
    group_sums_[group * rows_ + row] = source.group_sums_[group * source.rows_ + source_row];
}

QuantizedView InputRows::quantized() const {
  return {
      .codes = codes_,
      .scales = scales_,
      .group_sums = group_sums_,
      .chunk_sums = chunk_sums_,
      .rows = rows_,
      .cols = cols_,
      .chunk_cols = chunk_cols_,
  };
}

void multiply(const Kernels& kernels, const Matrix& matrix, const InputRows& x, std::size_t first_panel,
              std::size_t panels, float* out, std::size_t out_stride) {
  INVARIANT(panels <= kSlicePanels && x.cols() == matrix.layout.padded_cols);
  const format::TileType type = matrix.layout.type;
  INVARIANT(x.is_float() == (type == format::TileType::bf16));
  std::array<PanelView, kSlicePanels> views;
  for (std::size_t p = 0; p < panels; ++p) views[p] = matrix.panel(first_panel + p);
  switch (type) {
    case format::TileType::bf16:
      kernels.multiply_bf16(views.data(), panels, x.floats(), x.rows(), x.cols(), out, out_stride);
      break;
    case format::TileType::q8:
      kernels.multiply_q8(views.data(), panels, x.quantized(), out, out_stride);
      break;
    case format::TileType::q6:
      kernels.multiply_q6(views.data(), panels, x.quantized(), out, out_stride);
      break;
    case format::TileType::q4:
      kernels.multiply_q4(views.data(), panels, x.quantized(), out, out_stride);
      break;
    case format::TileType::mx4:
      kernels.multiply_mx4(views.data(), panels, x.quantized(), out, out_stride);
      break;
  }
}

// Only as far as the matrix has outputs: behind the bias lies what no digest covers, and the outputs of
// padding must stay zero.
void add_bias(const Matrix& matrix, std::size_t rows, std::size_t first_panel, std::size_t panels, float* out,
              std::size_t out_stride) {
  if (matrix.bias == nullptr) return;
  const std::size_t first = first_panel * format::kPanelRows;
  const std::size_t count = std::min<std::size_t>(panels * format::kPanelRows, matrix.layout.rows - first);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < count; ++i) out[r * out_stride + i] += matrix.bias[first + i];
}

std::size_t slice_panels(std::size_t panels_total, std::size_t workers, std::size_t multiple) {
  // Four tasks a worker where the matrix is large enough: a worker on a busy core can then leave some to the
  // others (docs/decisions/0015-products-in-shares.md).
  const std::size_t even = panels_total / (workers * 4) / multiple * multiple;
  return std::clamp(even, multiple, kSlicePanels);
}

}  // namespace sluice::runtime
