#include "format/tile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

using namespace sluice::format;

TEST_CASE("q8 codes lie in oneDNN's BA16a64b4a order") {
  // Element (k, n) of K x N lies at byte ((n/64 * K/64 + k/64) * 16 + (k mod 64)/4) * 256 + (n mod 64) * 4 +
  // k mod 4.
  const std::uint64_t rows = 192;
  const std::uint64_t cols = 256;
  const TileLayout layout(TileType::q8, rows, cols);
  for (std::uint64_t n = 0; n < rows; ++n)
    for (std::uint64_t k = 0; k < cols; ++k)
      REQUIRE(layout.code_offset_bytes(n, k) ==
              ((n / 64 * (cols / 64) + k / 64) * 16 + k % 64 / 4) * 256 + n % 64 * 4 + k % 4);
}

TEST_CASE("every code has a place of its own, and the places fill the plane") {
  for (const TileType type : {TileType::bf16, TileType::q8, TileType::q6, TileType::q4}) {
    const TileLayout layout(type, 100, 130);
    const bool in_nibbles = type == TileType::q6 || type == TileType::q4;
    CHECK(layout.padded_rows == 128);
    CHECK(layout.padded_cols == 192);
    std::set<std::pair<std::uint64_t, bool>> places;
    for (std::uint64_t n = 0; n < layout.padded_rows; ++n)
      for (std::uint64_t k = 0; k < layout.padded_cols; ++k)
        places.emplace(layout.code_offset_bytes(n, k), in_nibbles && TileLayout::in_high_nibble(k));
    CHECK(places.size() == 128 * 192);
    CHECK(places.rbegin()->first < layout.magnitudes_offset_bytes);
    const std::map<TileType, std::uint64_t> bits = {
        {TileType::bf16, 16}, {TileType::q8, 8}, {TileType::q6, 6}, {TileType::q4, 4}};
    CHECK(layout.magnitudes_offset_bytes == 128 * 192 * bits.at(type) / 8);
  }
}

TEST_CASE("the high bits of q6 have places of their own between the low ones, and fill them") {
  const TileLayout layout(TileType::q6, 128, 192);
  std::map<std::uint64_t, unsigned> taken;  // bits of each byte
  for (std::uint64_t n = 0; n < layout.rows; ++n) {
    for (std::uint64_t k = 0; k < layout.cols; ++k) {
      taken[layout.code_offset_bytes(n, k)] |= TileLayout::in_high_nibble(k) ? 0xf0u : 0x0fu;
      unsigned& high = taken[layout.high_bits_offset_bytes(n, k)];
      const unsigned bits = 3u << TileLayout::high_bits_shift(n, k);
      REQUIRE((high & bits) == 0);
      high |= bits;
    }
  }
  CHECK(taken.size() == layout.magnitudes_offset_bytes);
  CHECK(std::ranges::all_of(taken, [](const auto& byte) { return byte.second == 0xff; }));
}

TEST_CASE("q6 planes have the sizes that the container's specification gives") {
  const TileLayout layout(TileType::q6, 128, 192);  // 2 panels of 3 tiles
  CHECK(layout.panel_code_bytes == 3 * 3072);
  CHECK(layout.magnitudes_offset_bytes == 6 * 3072);
  CHECK(layout.row_scales_offset_bytes == 6 * 3072 + 6 * 64);
  CHECK(layout.total_bytes == layout.row_scales_offset_bytes + 128 * 4);
}

TEST_CASE("q4 planes have the sizes that the container's specification gives") {
  const TileLayout layout(TileType::q4, 128, 192);  // 2 panels of 3 tiles
  CHECK(layout.magnitudes_offset_bytes == 6 * 2048);
  CHECK(layout.signs_offset_bytes == 6 * 2048 + 6 * 128);
  CHECK(layout.row_scales_offset_bytes == 6 * 2048 + 6 * 128 + 6 * 32);
  CHECK(layout.total_bytes == layout.row_scales_offset_bytes + 128 * 4);
  // With an odd number of tiles the signs end in the middle of a cache line; the row scales start on the next
  // one.
  const TileLayout odd(TileType::q4, 64, 64);
  CHECK(odd.row_scales_offset_bytes == 2048 + 128 + 64);
}

TEST_CASE("bits per weight count codes, sub-scales and row scales without padding") {
  CHECK(bits_per_weight(TileType::bf16, 14336, 4096) == 16);
  CHECK(bits_per_weight(TileType::q8, 14336, 4096) == doctest::Approx(8.0078125));
  CHECK(bits_per_weight(TileType::q6, 14336, 4096) == doctest::Approx(6 + 2.0 / 16 + 32.0 / 4096));
  CHECK(bits_per_weight(TileType::q4, 14336, 4096) == doctest::Approx(4 + 5.0 / 16 + 32.0 / 4096));
  CHECK(bits_per_weight(TileType::q4, 512, 256) == doctest::Approx(4.4375));
}
