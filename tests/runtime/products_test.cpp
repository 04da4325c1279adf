// Input rows: the rows of activations that products read.

#include "runtime/kernels/products.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/kernels/isa.h"
#include "tests/runtime/kernel_twins.h"

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

TEST_CASE("widths that are no multiple of the chunk end in a narrower one, in every type") {
  const auto& generic = runtime::kernels_for(runtime::Isa::generic);
  std::uint64_t seed = 1;
  for (const auto type : {format::TileType::q8, format::TileType::q6, format::TileType::q4,
                          format::TileType::mx4, format::TileType::bf16}) {
    CAPTURE(format::to_string(type));
    for (const std::size_t cols : {64u, 192u, 2880u}) {
      CAPTURE(cols);
      const tests::RandomMatrix w(type, 70, cols, ++seed);  // the last panel has six rows
      for (const std::size_t batch : {1u, 4u, 9u}) {
        for (const std::size_t chunk : {32u, 128u}) {
          if (chunk == 32 && (cols == 2880 || type == format::TileType::bf16)) continue;
          runtime::InputRowsBuffer buffer;
          const InputRows x = buffer.reset(type, batch, cols, chunk);
          std::vector<float> floats;
          for (std::size_t r = 0; r < batch; ++r) {
            const auto row = tests::random_floats(cols, ++seed);
            floats.insert(floats.end(), row.begin(), row.end());
            // The last chunk on its own, as another thread fills it.
            const std::size_t last = (cols - 1) / chunk * chunk;
            x.fill(generic, r, last, cols - last, row.data() + last);
            if (last > 0) x.fill(generic, r, 0, last, row.data());
          }
          const auto expected = type == format::TileType::bf16 ? tests::slow_float_products(w, floats, batch)
                                                               : tests::slow_products(w, x.quantized());
          for (const runtime::Kernels* kernels : tests::all_kernels()) {
            CAPTURE(std::string(kernels->name));
            REQUIRE(tests::same_bits(tests::fast_products(*kernels, w, x), expected));
          }
        }
      }
    }
  }
}

TEST_CASE("the narrower last chunk has a scale and sums of its own, also when rows are copied") {
  for (const runtime::Kernels* kernels : tests::all_kernels()) {
    CAPTURE(std::string(kernels->name));
    constexpr std::size_t kRows = 3, kCols = 2880, kChunks = 23;  // 22 of 128, and one of 64
    runtime::InputRowsBuffer buffer;
    const InputRows x = buffer.reset(format::TileType::mx4, kRows, kCols, 128);
    for (std::size_t r = 0; r < kRows; ++r) {
      std::vector<float> row(kCols, 100.0f);
      std::fill(row.end() - 64, row.end(), static_cast<float>(r + 1));
      row[kCols - 1] = -static_cast<float>(r + 1);
      x.fill(*kernels, r, 0, kCols, row.data());
    }
    runtime::InputRowsBuffer copies;
    copies.reset(format::TileType::mx4, 5, kCols, 128);
    const InputRows copy = copies.rows(format::TileType::mx4, 2, 2);  // an input of two rows within five
    copy.copy_row(0, x, 0);
    copy.copy_row(1, x, 2);
    const auto view = copy.quantized();
    for (std::size_t i = 0; i < 2; ++i) {
      const std::int8_t* last = view.codes + 22 * 128 * 2 + i * 64;
      CHECK(std::count(last, last + 63, 127) == 63);
      CHECK(last[63] == -127);
      CHECK(view.scales[(kChunks - 1) * 2 + i] == static_cast<float>(i == 0 ? 1 : 3) / 127.0f);
      CHECK(view.scales[(kChunks - 2) * 2 + i] == 100.0f / 127.0f);
      CHECK(view.chunk_sums[(kChunks - 1) * 2 + i] == 62 * 127);
      CHECK(view.chunk_sums[(kChunks - 2) * 2 + i] == 128 * 127);
      CHECK(view.group_sums[(kCols / 16 - 1) * 2 + i] == 14 * 127);
    }
  }
}
