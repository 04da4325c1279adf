#include "format/tile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "format/tensor.h"

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
  for (const TileType type : {TileType::bf16, TileType::q8, TileType::q6, TileType::q4, TileType::mx4}) {
    const TileLayout layout(type, 100, 130);
    const bool in_nibbles = type == TileType::q6 || type == TileType::q4 || type == TileType::mx4;
    CHECK(layout.padded_rows == 128);
    CHECK(layout.padded_cols == 192);
    std::set<std::pair<std::uint64_t, bool>> places;
    for (std::uint64_t n = 0; n < layout.padded_rows; ++n)
      for (std::uint64_t k = 0; k < layout.padded_cols; ++k)
        places.emplace(layout.code_offset_bytes(n, k), in_nibbles && TileLayout::in_high_nibble(k));
    CHECK(places.size() == 128 * 192);
    CHECK(places.rbegin()->first < layout.exponents_offset_bytes);
    const std::map<TileType, std::uint64_t> bits = {
        {TileType::bf16, 16}, {TileType::q8, 8}, {TileType::q6, 6}, {TileType::q4, 4}, {TileType::mx4, 4}};
    CHECK(layout.exponents_offset_bytes == 128 * 192 * bits.at(type) / 8);
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

TEST_CASE("mx4 has the codes where q4 has them, and an exponent for 32 inputs of a row") {
  const TileLayout layout(TileType::mx4, 100, 160);  // padded to 2 panels of 3 tiles
  const TileLayout q4(TileType::q4, 100, 160);
  CHECK(layout.panel_code_bytes == 3 * kMx4TileBytes);
  CHECK(layout.exponents_offset_bytes == 6 * 2048);
  CHECK(layout.panel_exponent_bytes() == 3 * 128);
  CHECK(layout.total_bytes == 6 * 2048 + 6 * 128);
  CHECK(layout.panel_magnitude_bytes() == 0);
  CHECK(q4.panel_exponent_bytes() == 0);
  std::set<std::uint64_t> places;
  for (std::uint64_t n = 0; n < layout.padded_rows; ++n) {
    for (std::uint64_t k = 0; k < layout.padded_cols; ++k) {
      REQUIRE(layout.code_offset_bytes(n, k) == q4.code_offset_bytes(n, k));
      // docs/container.md, "Matrices in tiles"
      const std::uint64_t plane = (n / 64 * 3 + k / 64) * 128 + k % 64 / 32 * 64 + n % 64;
      REQUIRE(layout.exponent_offset_bytes(n, k) == 6 * 2048 + plane);
      places.insert(plane);
    }
  }
  CHECK(places.size() == 6 * 128);
  CHECK(*places.rbegin() == 6 * 128 - 1);
}

TEST_CASE("mx4 decodes E2M1 codes under E8M0 exponents") {
  const TileLayout layout(TileType::mx4, 2, 64);
  std::vector<std::byte> matrix(layout.total_bytes);
  const auto set = [&](std::uint64_t row, std::uint64_t col, unsigned code, unsigned exponent) {
    matrix[layout.code_offset_bytes(row, col)] |=
        static_cast<std::byte>(code << (TileLayout::in_high_nibble(col) ? 4 : 0));
    matrix[layout.exponent_offset_bytes(row, col)] = static_cast<std::byte>(exponent);
  };
  // All codes; each value under 2^-3.
  const std::vector<float> values = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};
  for (unsigned code = 0; code < 16; ++code) set(0, code, code, 124);
  for (unsigned code = 0; code < 16; ++code) {
    CHECK(mx4_code_at(layout, matrix, 0, code) == code);
    CHECK(integer_weight_at(layout, matrix, 0, code) == static_cast<int>(2 * values[code]));
    CHECK(weight_at(layout, matrix, 0, code) == values[code] / 8);
    CHECK(std::signbit(weight_at(layout, matrix, 0, code)) == (code >= 8));
  }
  // The example of the specification's byte: 0xA7 with scale 124 is 0.75, then -0.125.
  CHECK(mx4_to_f32(7, 124) == 0.75f);
  CHECK(mx4_to_f32(10, 124) == -0.125f);
  // The other block of inputs and the other row have exponents of their own.
  set(0, 32, 2, 130);
  set(1, 0, 2, 125);
  CHECK(exponent_at(layout, matrix, 0, 0) == 124);
  CHECK(exponent_at(layout, matrix, 0, 63) == 130);
  CHECK(weight_at(layout, matrix, 0, 32) == 8);
  CHECK(weight_at(layout, matrix, 1, 0) == 0.25f);
}

TEST_CASE("MXFP4 values are exact at both ends of the exponents") {
  CHECK(mx4_to_f32(1, 0) == 0x1p-128f);  // a subnormal number
  CHECK(mx4_to_f32(9, 1) == -0x1p-127f);
  CHECK(mx4_to_f32(15, 252) == -0x1.8p127f);
  CHECK(std::isinf(mx4_to_f32(7, 253)));
  CHECK(mx4_to_f32(3, 254) == 0x1.8p127f);
  CHECK(std::isnan(mx4_to_f32(0, 255)));
  // bf16 holds every finite one.
  for (unsigned exponent = 0; exponent < 255; ++exponent) {
    for (unsigned code = 0; code < 16; ++code) {
      const float value = mx4_to_f32(code, exponent);
      if (std::isfinite(value)) REQUIRE(bf16_to_f32(f32_to_bf16(value)) == value);
    }
  }
}

TEST_CASE("bits per weight count codes, sub-scales and row scales without padding") {
  CHECK(bits_per_weight(TileType::bf16, 14336, 4096) == 16);
  CHECK(bits_per_weight(TileType::q8, 14336, 4096) == doctest::Approx(8.0078125));
  CHECK(bits_per_weight(TileType::q6, 14336, 4096) == doctest::Approx(6 + 2.0 / 16 + 32.0 / 4096));
  CHECK(bits_per_weight(TileType::q4, 14336, 4096) == doctest::Approx(4 + 5.0 / 16 + 32.0 / 4096));
  CHECK(bits_per_weight(TileType::q4, 512, 256) == doctest::Approx(4.4375));
  CHECK(bits_per_weight(TileType::mx4, 5760, 2880) == 4.25);
}
