// Offsets in tiles, as tile.h defines them, and the reference implementation that decodes one weight at a
// time. Every kernel and encoder is compared with these functions in the tests, so they are written for
// comparison with the specification (docs/container.md), not for speed.

#include "format/tile.h"

#include <cmath>
#include <limits>

#include "base/invariant.h"
#include "format/tensor.h"

namespace sluice::format {
namespace {

std::uint64_t code_bytes(TileType type, std::uint64_t weights) {
  switch (type) {
    case TileType::bf16: return weights * 2;
    case TileType::q8: return weights;
    case TileType::q6: return weights / 4 * 3;
    case TileType::q4:
    case TileType::mx4: return weights / 2;
  }
  INVARIANT(!"a TileType without size");
}

unsigned byte_at(base::Bytes bytes, std::uint64_t offset) {
  return std::to_integer<unsigned>(bytes[static_cast<std::size_t>(offset)]);
}

/// The four bits of a code that share their byte with those of the neighbouring quad.
unsigned nibble_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  const unsigned packed = byte_at(matrix, layout.code_offset_bytes(row, col));
  return TileLayout::in_high_nibble(col) ? packed >> 4 : packed & 15;
}

}  // namespace

std::string_view to_string(TileType type) {
  switch (type) {
    case TileType::bf16: return "bf16";
    case TileType::q8: return "q8";
    case TileType::q6: return "q6";
    case TileType::q4: return "q4";
    case TileType::mx4: return "mx4";
  }
  INVARIANT(!"a TileType without name");
}

bool has_row_scales(TileType type) {
  switch (type) {
    case TileType::bf16:
    case TileType::mx4: return false;
    case TileType::q8:
    case TileType::q6:
    case TileType::q4: return true;
  }
  INVARIANT(!"a TileType without planes");
}

TileLayout::TileLayout(TileType type_in, std::uint64_t rows_in, std::uint64_t cols_in)
    : type(type_in),
      rows(rows_in),
      cols(cols_in),
      padded_rows(base::align_up(rows, kPanelRows)),
      padded_cols(base::align_up(cols, kTileCols)),
      panels(padded_rows / kPanelRows),
      panel_tiles(padded_cols / kTileCols),
      panel_code_bytes(code_bytes(type, kPanelRows * padded_cols)) {
  // Each plane covers the whole matrix, so that codes have a constant step within a panel.
  const std::uint64_t codes = panels * panel_code_bytes;
  exponents_offset_bytes = codes;
  magnitudes_offset_bytes = exponents_offset_bytes + panels * panel_exponent_bytes();
  signs_offset_bytes = magnitudes_offset_bytes + panels * panel_magnitude_bytes();
  // With an odd number of tiles the signs end in the middle of a cache line; the row scales start on the next
  // one.
  row_scales_offset_bytes = base::align_up(signs_offset_bytes + panels * panel_sign_bytes(), 64);
  total_bytes = row_scales_offset_bytes + (has_row_scales(type) ? padded_rows * sizeof(float) : 0);
}

std::uint64_t TileLayout::panel_exponent_bytes() const {
  return type == TileType::mx4 ? panel_tiles * kExponentBytesPerTile : 0;
}

std::uint64_t TileLayout::panel_magnitude_bytes() const {
  switch (type) {
    case TileType::bf16:
    case TileType::q8:
    case TileType::mx4: return 0;
    case TileType::q6: return panel_tiles * kQ6MagnitudeBytesPerTile;
    case TileType::q4: return panel_tiles * kMagnitudeBytesPerTile;
  }
  INVARIANT(!"a TileType without planes");
}

std::uint64_t TileLayout::panel_sign_bytes() const {
  return type == TileType::q4 ? panel_tiles * kSignBytesPerTile : 0;
}

std::uint64_t TileLayout::code_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t panel = row / kPanelRows * panel_code_bytes;
  const std::uint64_t n = row % kPanelRows;
  switch (type) {
    case TileType::bf16:
      // A pair of inputs takes 128 elements (64 rows x 2); 16 pairs are a tile.
      return panel + (col / kBf16TileCols * 2048 + col % kBf16TileCols / 2 * 128 + n * 2 + col % 2) * 2;
    case TileType::q8:
      // A quad takes 256 bytes (64 rows x 4 inputs); 16 quads are a tile.
      return panel + col / kTileCols * kQ8TileBytes + col % kTileCols / 4 * 256 + n * 4 + col % 4;
    // Pairs of quads have no gap between tiles, so the tile's number does not occur.
    case TileType::q6: return panel + col / 8 * kQ6PairBytes + n * 4 + col % 4;
    case TileType::q4:
    case TileType::mx4:
      // Two neighbouring quads share 256 bytes; in_high_nibble() says which of them has which nibble.
      return panel + col / kTileCols * kQ4TileBytes + col % kTileCols / 8 * 256 + n * 4 + col % 4;
  }
  INVARIANT(!"a TileType without codes");
}

std::uint64_t TileLayout::high_bits_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t pair = row / kPanelRows * panel_code_bytes + col / 8 * kQ6PairBytes;
  return pair + 256 + row % kPanelRows / 16 * 32 + row % 8 * 4 + col % 4;
}

std::uint64_t TileLayout::magnitude_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t tile = row / kPanelRows * panel_tiles + col / kTileCols;
  const std::uint64_t group = col % kTileCols / kGroupCols;
  if (type == TileType::q6)
    return magnitudes_offset_bytes + tile * kQ6MagnitudeBytesPerTile + group * 16 + row % 16;
  return magnitudes_offset_bytes + tile * kMagnitudeBytesPerTile + group * 32 + row % 32;
}

std::uint64_t TileLayout::exponent_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t tile = row / kPanelRows * panel_tiles + col / kTileCols;
  const std::uint64_t block = col % kTileCols / kMx4BlockCols;
  return exponents_offset_bytes + tile * kExponentBytesPerTile + block * kPanelRows + row % kPanelRows;
}

std::uint64_t TileLayout::sign_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t tile = row / kPanelRows * panel_tiles + col / kTileCols;
  const std::uint64_t group = col % kTileCols / kGroupCols;
  return signs_offset_bytes + tile * kSignBytesPerTile + group * 8 + row % kPanelRows / 8;
}

int sub_scale_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  const unsigned packed = byte_at(matrix, layout.magnitude_offset_bytes(row, col));
  if (layout.type == TileType::q6) return static_cast<int>(packed >> row % kPanelRows / 16 * 2 & 3) + 1;
  INVARIANT(layout.type == TileType::q4);
  const unsigned magnitude = (row % kPanelRows < 32 ? packed & 15 : packed >> 4) + 1;
  const bool negative = (byte_at(matrix, layout.sign_offset_bytes(row, col)) >> row % 8 & 1) != 0;
  return negative ? -static_cast<int>(magnitude) : static_cast<int>(magnitude);
}

unsigned mx4_code_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  INVARIANT(layout.type == TileType::mx4);
  return nibble_at(layout, matrix, row, col);
}

unsigned exponent_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  INVARIANT(layout.type == TileType::mx4);
  return byte_at(matrix, layout.exponent_offset_bytes(row, col));
}

float mx4_to_f32(unsigned code, unsigned exponent) {
  if (exponent == 255) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude =
      std::ldexp(static_cast<float>(kDoubledE2m1[code & 7]), static_cast<int>(exponent) - 128);
  return code >= 8 ? -magnitude : magnitude;  // code 8 is -0
}

int integer_weight_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  if (layout.type == TileType::q8)
    return static_cast<std::int8_t>(byte_at(matrix, layout.code_offset_bytes(row, col)));
  // q4, q6 and mx4 keep the low four bits in the same way.
  const unsigned nibble = nibble_at(layout, matrix, row, col);
  if (layout.type == TileType::mx4) return kDoubledE2m1[nibble];
  if (layout.type == TileType::q4)
    return (static_cast<int>(nibble) - 8) * sub_scale_at(layout, matrix, row, col);
  const unsigned high = byte_at(matrix, layout.high_bits_offset_bytes(row, col));
  const unsigned code = nibble | (high >> TileLayout::high_bits_shift(row, col) & 3) << 4;
  return (static_cast<int>(code) - 32) * sub_scale_at(layout, matrix, row, col);
}

float row_scale_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row) {
  INVARIANT(has_row_scales(layout.type));
  return base::load_le<float>(matrix, layout.row_scales_offset_bytes + row * sizeof(float));
}

float weight_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  if (layout.type == TileType::bf16)
    return bf16_to_f32(base::load_le<std::uint16_t>(matrix, layout.code_offset_bytes(row, col)));
  if (layout.type == TileType::mx4)
    return mx4_to_f32(mx4_code_at(layout, matrix, row, col), exponent_at(layout, matrix, row, col));
  return static_cast<float>(integer_weight_at(layout, matrix, row, col)) * row_scale_at(layout, matrix, row);
}

double bits_per_weight(TileType type, std::uint64_t rows, std::uint64_t cols) {
  const auto weights = static_cast<double>(rows) * static_cast<double>(cols);
  const double row_scales = 32.0 * static_cast<double>(rows);
  const auto groups = static_cast<double>(rows * base::divide_up(cols, kGroupCols));
  switch (type) {
    case TileType::bf16: return 16;
    case TileType::q8: return 8 + row_scales / weights;
    case TileType::q6: return 6 + (2 * groups + row_scales) / weights;
    // A group has 4 bits of magnitude and a sign.
    case TileType::q4: return 4 + (5 * groups + row_scales) / weights;
    case TileType::mx4:
      return 4 + 8 * static_cast<double>(rows * base::divide_up(cols, kMx4BlockCols)) / weights;
  }
  INVARIANT(!"a TileType without bits");
}

}  // namespace sluice::format
