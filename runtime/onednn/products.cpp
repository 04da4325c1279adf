// Slices of matrix products through oneDNN, in three ways: bf16 x bf16, f32 x weights widened to f32, and u8
// x s8 chunk by chunk (onednn.h says when). Each worker has primitives and scratch memory of its own, so
// workers share nothing. A slice is at most kSlicePanels panels; all its rows are computed by one task.

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/invariant.h"
#include "runtime/kernels/buffer.h"
#include "runtime/onednn/matmuls.h"
#include "runtime/onednn/onednn.h"

namespace sluice::runtime {
namespace {

/// Inputs whose weights are widened to f32 at once: with 256 outputs 512 KiB, which stay in the L2 cache.
constexpr std::size_t kFloatBlockCols = 512;
constexpr std::size_t kRowsMax = 512;  ///< rows of one oneDNN call, which bounds the scratch memory
/// Rows of integer products are padded to a multiple of this, so that few primitives are made for them.
constexpr std::size_t kRowStep = 16;

/// Writes the int8 weights of one panel and some inputs as they lie in a q8 tile, which is oneDNN's
/// BA16a64b4a.
void unpack(const Kernels& kernels, const Matrix& matrix, std::size_t panel, std::size_t first_col,
            std::size_t cols, std::int8_t* out) {
  const PanelView view = matrix.panel(panel);
  const std::size_t first_group = first_col / format::kGroupCols;
  const std::size_t groups = cols / format::kGroupCols;
  switch (matrix.layout.type) {
    case format::TileType::q8:
      std::memcpy(out, view.codes + first_group * kQ8GroupBytes, groups * kQ8GroupBytes);
      return;
    case format::TileType::q6: return kernels.unpack_q6(view, first_group, groups, out);
    case format::TileType::q4: return kernels.unpack_q4(view, first_group, groups, out);
    case format::TileType::mx4:
    case format::TileType::bf16: break;
  }
  INVARIANT(!"a type without integers");
}

}  // namespace

struct OneDnnProducts::Worker {
  /// Memory for one call.
  Buffer<float> floats;         ///< widened weights, or results that do not lie densely in `out`
  Buffer<std::uint8_t> source;  ///< [row][chunk_cols]
  Buffer<std::int8_t> weights;  ///< [panel][chunk_cols padded to 64][64]
  Buffer<std::int32_t> sums;    ///< [row][width]
  Matmuls matmuls;
  std::uint64_t calls = 0;

  void multiply_bf16(const Matrix& matrix, const InputRows& x, std::size_t first_panel, std::size_t panels,
                     float* out, std::size_t out_stride);
  void multiply_widened(const Kernels& kernels, const Matrix& matrix, const InputRows& x,
                        std::size_t first_panel, std::size_t panels, float* out, std::size_t out_stride);
  void multiply_integers(const Kernels& kernels, const Matrix& matrix, const QuantizedView& x,
                         std::size_t first_panel, std::size_t panels, float* out, std::size_t out_stride);
};

void OneDnnProducts::Worker::multiply_bf16(const Matrix& matrix, const InputRows& x, std::size_t first_panel,
                                           std::size_t panels, float* out, std::size_t out_stride) {
  const std::size_t width = panels * format::kPanelRows;
  // bf16 panels consist of codes alone and follow one another, so a slice is one matrix of oneDNN.
  const std::byte* const codes = matrix.panel(first_panel).codes;
  for (std::size_t first = 0; first < x.rows(); first += kRowsMax) {
    const std::size_t rows = std::min(x.rows() - first, kRowsMax);
    const std::uint16_t* const rounded = x.bf16() + first * x.cols();
    float* const target = out + first * out_stride;
    // oneDNN takes its slow reference loops for rows that are not dense, so other outputs go through a
    // buffer.
    if (out_stride == width) {
      matmuls.multiply_bf16(rows, x.cols(), width, rounded, codes, target);
      continue;
    }
    floats.reserve(rows * width);
    matmuls.multiply_bf16(rows, x.cols(), width, rounded, codes, floats.data());
    for (std::size_t r = 0; r < rows; ++r)
      std::memcpy(target + r * out_stride, &floats[r * width], width * sizeof(float));
  }
}

void OneDnnProducts::Worker::multiply_widened(const Kernels& kernels, const Matrix& matrix,
                                              const InputRows& x, std::size_t first_panel, std::size_t panels,
                                              float* out, std::size_t out_stride) {
  const std::size_t width = panels * format::kPanelRows;
  // A block of inputs at a time, added to `out`: widening the whole slice first would take it out of the L2
  // cache before it is used.
  floats.reserve(kFloatBlockCols * width);
  for (std::size_t col = 0; col < x.cols(); col += kFloatBlockCols) {
    const std::size_t cols = std::min(kFloatBlockCols, x.cols() - col);
    for (std::size_t p = 0; p < panels; ++p)
      kernels.widen_bf16(matrix.panel(first_panel + p), col, cols, floats.data() + p * format::kPanelRows,
                         width);
    multiply_f32({.rows = x.rows(),
                  .cols = cols,
                  .width = width,
                  .source = x.floats() + col,
                  .source_stride = x.cols(),
                  .weights = floats.data(),
                  .out = out,
                  .out_stride = out_stride,
                  .add = col > 0});
  }
}

// One matmul for each chunk of inputs, since every chunk has its own scale. Activations become u8 by adding
// 128. That adds 128 x the sum of the weights to each result, so one more row, which consists of ones,
// computes that sum for every output, and add_sums() subtracts it. Sums are added to `out` in the order of
// the chunks, as kernels.h says of multiply_q8, so the bits are those of the own kernels.
void OneDnnProducts::Worker::multiply_integers(const Kernels& kernels, const Matrix& matrix,
                                               const QuantizedView& x, std::size_t first_panel,
                                               std::size_t panels, float* out, std::size_t out_stride) {
  const std::size_t width = panels * format::kPanelRows;
  for (std::size_t r = 0; r < x.rows; ++r) std::fill_n(out + r * out_stride, width, 0.0f);
  const std::size_t tile_cols = base::align_up(x.chunk_cols, format::kTileCols);
  weights.reserve(tile_cols * width);
  source.reserve(kRowsMax * x.chunk_cols);
  sums.reserve(kRowsMax * width);
  for (std::size_t col = 0; col < x.cols; col += x.chunk_cols) {
    const std::size_t cols = std::min(x.chunk_cols, x.cols - col);
    const std::size_t panel_bytes = base::align_up(cols, format::kTileCols) * format::kPanelRows;
    for (std::size_t p = 0; p < panels; ++p) {
      std::int8_t* const panel = weights.data() + p * panel_bytes;
      unpack(kernels, matrix, first_panel + p, col, cols, panel);
      // A chunk of 32 inputs is half a tile. oneDNN reads whole tiles, so the rest must be zero.
      std::fill_n(panel + cols * format::kPanelRows, panel_bytes - cols * format::kPanelRows, std::int8_t{0});
    }
    for (std::size_t first = 0; first < x.rows; first += kRowsMax - 1) {
      const std::size_t rows = std::min(x.rows - first, kRowsMax - 1);
      // rows + 1 for the row of ones. The rows behind it hold what earlier calls left there; nobody reads
      // their results.
      const std::size_t padded_rows = base::align_up(rows + 1, kRowStep);
      const std::int8_t* const codes = x.codes + col * x.rows + first * cols;
      for (std::size_t i = 0; i < rows * cols; ++i)
        source[i] = static_cast<std::uint8_t>(static_cast<std::uint8_t>(codes[i]) ^ 0x80u);
      std::fill_n(&source[rows * cols], cols, std::uint8_t{1});
      matmuls.multiply_u8(padded_rows, cols, width, source.data(), weights.data(), sums.data());
      const float* const scales = x.scales + col / x.chunk_cols * x.rows + first;
      for (std::size_t r = 0; r < rows; ++r)
        kernels.add_sums(&sums[r * width], &sums[rows * width], scales[r], width,
                         out + (first + r) * out_stride);
    }
  }
  for (std::size_t r = 0; r < x.rows; ++r)
    for (std::size_t p = 0; p < panels; ++p)
      kernels.multiply(matrix.panel(first_panel + p).row_scales, format::kPanelRows,
                       out + r * out_stride + p * format::kPanelRows);
}

OneDnnProducts::OneDnnProducts(const Kernels& kernels, unsigned workers) : kernels_(kernels) {
  for (unsigned i = 0; i < workers; ++i) workers_.push_back(std::make_unique<Worker>());
}
OneDnnProducts::~OneDnnProducts() = default;

void OneDnnProducts::multiply(const Matrix& matrix, const InputRows& x, std::size_t first_panel,
                              std::size_t panels, float* out, std::size_t out_stride, unsigned worker) {
  INVARIANT(panels <= kSlicePanels && x.cols() == matrix.layout.padded_cols && x.rows() >= kOneDnnRowsMin);
  INVARIANT(x.is_float() == (matrix.layout.type == format::TileType::bf16));
  Worker& w = *workers_.at(worker);
  ++w.calls;
  if (!x.is_float())
    w.multiply_integers(kernels_, matrix, x.quantized(), first_panel, panels, out, out_stride);
  else if (onednn_isa().bf16)
    w.multiply_bf16(matrix, x, first_panel, panels, out, out_stride);
  else
    w.multiply_widened(kernels_, matrix, x, first_panel, panels, out, out_stride);
}

std::uint64_t OneDnnProducts::calls() const {
  std::uint64_t calls = 0;
  for (const auto& worker : workers_) calls += worker->calls;
  return calls;
}

bool uses_onednn(MatmulEngine engine, format::TileType type, std::size_t rows, Isa isa) {
  if (rows < kOneDnnRowsMin || engine == MatmulEngine::own || type == format::TileType::mx4) return false;
  if (engine == MatmulEngine::onednn) return true;
  // automatic: what is faster (docs/performance.md, docs/decisions/0016-onednn-behind-the-products.md). A CPU
  // that oneDNN speeds up has avx512; other kernels were then chosen by name and are not replaced.
  if (isa != Isa::avx512) return false;
  const OneDnnIsa has = onednn_isa();
  return type == format::TileType::bf16 ? has.bf16 : has.amx;
}

void require_onednn(MatmulEngine engine, format::TileType type) {
  if (engine != MatmulEngine::onednn || onednn_isa().vnni) return;
  if (type == format::TileType::bf16 || type == format::TileType::mx4) return;
  throw base::Error(base::ErrorKind::usage,
                    "oneDNN " + matmul_info().onednn_version +
                        " multiplies integers with saturation on this CPU (" + matmul_info().onednn_isa +
                        "), which gives wrong results: only bf16 containers can use it here");
}

}  // namespace sluice::runtime
