// Our kernels against oneDNN's integer products: the same bits for every batch and width. This is also the
// test of the tiles' byte order against oneDNN's BA16a64b4a.

#include "runtime/kernels/matmul.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "runtime/kernels/isa.h"
#include "tests/runtime/onednn_gemm.h"
#include "tests/runtime/random_matrix.h"

using namespace sluice;
using runtime::Isa;
using runtime::Operand;

namespace {

// What kernels.h says of multiply_q8, with the integers from oneDNN. Its fast kernels take u8: the codes plus
// 128, which is taken off again.
std::vector<float> onednn_product(const tests::RandomMatrix& w, const runtime::QuantizedView& x,
                                  std::size_t panel) {
  const runtime::PanelView view = w.matrix().panel(panel);
  const std::size_t padded_rows = std::bit_ceil(x.rows);
  std::vector<float> out(x.rows * 64);
  tests::OnednnGemm gemm;
  for (std::size_t first = 0; first < x.cols; first += x.chunk_cols) {
    const std::size_t cols = std::min(x.chunk_cols, x.cols - first);
    const auto* tiles = reinterpret_cast<const std::int8_t*>(view.codes) + first * 64;
    std::vector<std::uint8_t> source(padded_rows * cols);
    for (std::size_t i = 0; i < x.rows * cols; ++i)
      source[i] = static_cast<std::uint8_t>(x.codes[first * x.rows + i] + 128);
    std::vector<std::int32_t> sums(padded_rows * 64);
    gemm.multiply(x.rows, cols, 64, source.data(), tiles, sums.data());
    for (std::size_t n = 0; n < 64; ++n) {
      std::int32_t bias = 0;
      for (std::size_t c = 0; c < cols; ++c)
        bias += 128 * format::integer_weight_at(w.layout, w.view(), panel * 64 + n, first + c);
      for (std::size_t r = 0; r < x.rows; ++r)
        out[r * 64 + n] = std::fma(static_cast<float>(sums[r * 64 + n] - bias),
                                   x.scales[first / x.chunk_cols * x.rows + r], out[r * 64 + n]);
    }
  }
  for (std::size_t r = 0; r < x.rows; ++r)
    for (std::size_t n = 0; n < 64; ++n) out[r * 64 + n] *= view.row_scales[n];
  return out;
}

}  // namespace

TEST_CASE("oneDNN and own kernels give the same bits") {
  if (runtime::detect_isa() != Isa::avx512) {
    MESSAGE("SKIPPED: this CPU has no AVX-512 VNNI, without which oneDNN's u8 x s8 saturates");
    return;
  }
  const auto& kernels = runtime::kernels_for(Isa::avx512);
  std::mt19937_64 random(11);
  for (const std::size_t rows : {1u, 16u, 17u, 31u, 100u, 128u}) {
    for (const std::size_t panels : {1u, 3u, 4u}) {
      const std::size_t cols = 64 * (1 + random() % 5);
      const tests::RandomMatrix w(format::TileType::q8, panels * 64 + 64, cols, random());
      runtime::OperandBuffer buffer;
      const Operand x = buffer.reset(w.layout.type, rows, cols, 128);
      for (std::size_t r = 0; r < rows; ++r) {
        std::vector<float> row(cols);
        for (float& v : row) v = static_cast<float>(random() % 1000) * 1e-2f - 5.0f;
        x.fill(kernels, r, 0, cols, row.data());
      }
      const std::size_t width = panels * 64;
      std::vector<float> own(rows * width);
      runtime::multiply(kernels, w.matrix(), x, 1, panels, own.data(), width);
      for (std::size_t p = 0; p < panels; ++p) {
        const auto expected = onednn_product(w, x.quantized(), 1 + p);
        CAPTURE(rows);
        CAPTURE(cols);
        for (std::size_t r = 0; r < rows; ++r)
          REQUIRE(std::memcmp(&own[r * width + p * 64], &expected[r * 64], 64 * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("a copied row is the row") {
  const auto& kernels = runtime::kernels_for(Isa::generic);
  runtime::OperandBuffer sources;
  const Operand source = sources.reset(format::TileType::q4, 3, 192, 128);
  for (std::size_t r = 0; r < 3; ++r) {
    std::vector<float> row(192, static_cast<float>(r) + 0.5f);
    row[100] = -7;
    source.fill(kernels, r, 0, 192, row.data());
  }
  runtime::OperandBuffer targets;
  const Operand target = targets.reset(format::TileType::q4, 1, 192, 128);
  target.copy_row(0, source, 2);
  const auto view = target.quantized();
  CHECK(view.scales[0] == 7.0f / 127.0f);
  CHECK(view.scales[1] == 2.5f / 127.0f);
  CHECK(view.codes[100] == -127);
  CHECK(view.codes[128] == 127);
  CHECK(view.chunk_sums[1] == 64 * 127);
  CHECK(view.group_sums[8] == 16 * 127);
}
