// oneDNN's products against our own kernels: the same bits for every batch and width. This is also the test
// of the tiles' byte order against oneDNN's BA16a64b4a.

#include "runtime/matmul.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "runtime/isa.h"
#include "tests/runtime/random_matrix.h"

using namespace sluice;
using runtime::Isa;
using runtime::MatmulWorker;
using runtime::Operand;

TEST_CASE("oneDNN and own kernels give the same bits") {
  if (runtime::detect_isa() != Isa::avx512) {
    MESSAGE("SKIPPED: this CPU has no AVX-512 VNNI, so oneDNN is not used");
    return;
  }
  const auto& kernels = runtime::kernels_for(Isa::avx512);
  MatmulWorker with(kernels, /*use_onednn=*/true);
  MatmulWorker without(kernels, /*use_onednn=*/false);
  std::mt19937_64 random(11);
  for (const auto type : {format::TileType::q8, format::TileType::q4}) {
    for (const std::size_t rows : {16u, 17u, 31u, 100u, 128u, 129u, 300u}) {
      for (const std::size_t panels : {1u, 3u, 4u}) {
        const std::size_t cols = 64 * (1 + random() % 5);
        const tests::RandomMatrix w(type, panels * 64 + 64, cols, random());
        Operand x;
        x.reset(type, rows, cols, 128);
        for (std::size_t r = 0; r < rows; ++r) {
          std::vector<float> row(cols);
          for (float& v : row) v = static_cast<float>(random() % 1000) * 1e-2f - 5.0f;
          x.fill(kernels, r, 0, cols, row.data());
        }
        const std::size_t width = panels * 64;
        std::vector<float> a(rows * width);
        std::vector<float> b(rows * width);
        with.multiply(w.matrix(), x, 1, panels, a.data(), width);
        without.multiply(w.matrix(), x, 1, panels, b.data(), width);
        CAPTURE(rows);
        CAPTURE(cols);
        REQUIRE(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("a copied row is the row") {
  const auto& kernels = runtime::kernels_for(Isa::generic);
  Operand source;
  source.reset(format::TileType::q4, 3, 192, 128);
  for (std::size_t r = 0; r < 3; ++r) {
    std::vector<float> row(192, static_cast<float>(r) + 0.5f);
    row[100] = -7;
    source.fill(kernels, r, 0, 192, row.data());
  }
  Operand target;
  target.reset(format::TileType::q4, 1, 192, 128);
  target.copy_row(0, source, 2);
  const auto view = target.quantized();
  CHECK(view.scales[0] == 7.0f / 127.0f);
  CHECK(view.scales[1] == 2.5f / 127.0f);
  CHECK(view.codes[100] == -127);
  CHECK(view.codes[128] == 127);
  CHECK(view.chunk_sums[1] == 64 * 127);
  CHECK(view.group_sums[8] == 16 * 127);
}
