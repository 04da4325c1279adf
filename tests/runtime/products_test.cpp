// Input rows: the rows of activations that products read.

#include "runtime/kernels/products.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/kernels/isa.h"

using namespace sluice;
using runtime::InputRows;

TEST_CASE("a copied row is the row") {
  const auto& kernels = runtime::kernels_for(runtime::Isa::generic);
  runtime::InputRowsBuffer sources;
  const InputRows source = sources.reset(format::TileType::q4, 3, 192, 128);
  for (std::size_t r = 0; r < 3; ++r) {
    std::vector<float> row(192, static_cast<float>(r) + 0.5f);
    row[100] = -7;
    source.fill(kernels, r, 0, 192, row.data());
  }
  runtime::InputRowsBuffer targets;
  const InputRows target = targets.reset(format::TileType::q4, 1, 192, 128);
  target.copy_row(0, source, 2);
  const auto view = target.quantized();
  CHECK(view.scales[0] == 7.0f / 127.0f);
  CHECK(view.scales[1] == 2.5f / 127.0f);
  CHECK(view.codes[100] == -127);
  CHECK(view.codes[128] == 127);
  CHECK(view.chunk_sums[1] == 64 * 127);
  CHECK(view.group_sums[8] == 16 * 127);
}

TEST_CASE("floats are kept in bf16, too, rounded to nearest") {
  const auto& kernels = runtime::kernels_for(runtime::Isa::generic);
  runtime::InputRowsBuffer buffer;
  const InputRows x = buffer.reset(format::TileType::bf16, 2, 64, 128);
  std::vector<float> row(64, 1.0f);
  row[1] = 0x1.01p0f;   // between two bf16: to the even one
  row[2] = 0x1.018p0f;  // above the middle
  row[3] = -0x1.fffp3f;
  x.fill(kernels, 1, 0, 64, row.data());
  const std::uint16_t* const rounded = x.bf16() + 64;
  CHECK(rounded[0] == 0x3F80);
  CHECK(rounded[1] == 0x3F80);
  CHECK(rounded[2] == 0x3F81);
  CHECK(rounded[3] == 0xC180);
  runtime::InputRowsBuffer targets;
  const InputRows copy = targets.reset(format::TileType::bf16, 1, 64, 128);
  copy.copy_row(0, x, 1);
  CHECK(std::equal(rounded, rounded + 64, copy.bf16()));
}
