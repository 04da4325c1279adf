#include "format/tile.h"

#include <bit>

#include "base/invariant.h"
#include "format/tensor.h"

namespace sluice::format {
namespace {

std::uint64_t code_bytes(TileType type, std::uint64_t weights) {
  switch (type) {
    case TileType::bf16: return weights * 2;
    case TileType::q8: return weights;
    case TileType::q4: return weights / 2;
  }
  INVARIANT(!"a TileType without size");
}

unsigned byte_at(base::Bytes bytes, std::uint64_t offset) {
  return std::to_integer<unsigned>(bytes[static_cast<std::size_t>(offset)]);
}

}  // namespace

std::string_view to_string(TileType type) {
  switch (type) {
    case TileType::bf16: return "bf16";
    case TileType::q8: return "q8";
    case TileType::q4: return "q4";
  }
  INVARIANT(!"a TileType without name");
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
  const std::uint64_t codes = panels * panel_code_bytes;
  const std::uint64_t tiles = panels * panel_tiles;
  const bool has_sub_scales = type == TileType::q4;
  magnitudes_offset_bytes = codes;
  signs_offset_bytes = magnitudes_offset_bytes + (has_sub_scales ? tiles * kMagnitudeBytesPerTile : 0);
  // An odd number of tiles leaves the signs at half a cache line; the row scales start at a whole one.
  row_scales_offset_bytes =
      base::align_up(signs_offset_bytes + (has_sub_scales ? tiles * kSignBytesPerTile : 0), 64);
  total_bytes = row_scales_offset_bytes + (type == TileType::bf16 ? 0 : padded_rows * sizeof(float));
}

std::uint64_t TileLayout::code_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t panel = row / kPanelRows * panel_code_bytes;
  const std::uint64_t n = row % kPanelRows;
  switch (type) {
    case TileType::bf16:
      return panel + (col / kBf16TileCols * 2048 + col % kBf16TileCols / 2 * 128 + n * 2 + col % 2) * 2;
    case TileType::q8:
      return panel + col / kTileCols * kQ8TileBytes + col % kTileCols / 4 * 256 + n * 4 + col % 4;
    case TileType::q4:
      return panel + col / kTileCols * kQ4TileBytes + col % kTileCols / 8 * 256 + n * 4 + col % 4;
  }
  INVARIANT(!"a TileType without codes");
}

std::uint64_t TileLayout::magnitude_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t tile = row / kPanelRows * panel_tiles + col / kTileCols;
  const std::uint64_t group = col % kTileCols / kGroupCols;
  return magnitudes_offset_bytes + tile * kMagnitudeBytesPerTile + group * 32 + row % 32;
}

std::uint64_t TileLayout::sign_offset_bytes(std::uint64_t row, std::uint64_t col) const {
  const std::uint64_t tile = row / kPanelRows * panel_tiles + col / kTileCols;
  const std::uint64_t group = col % kTileCols / kGroupCols;
  return signs_offset_bytes + tile * kSignBytesPerTile + group * 8 + row % kPanelRows / 8;
}

int sub_scale_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  INVARIANT(layout.type == TileType::q4);
  const unsigned packed = byte_at(matrix, layout.magnitude_offset_bytes(row, col));
  const unsigned magnitude = (row % kPanelRows < 32 ? packed & 15 : packed >> 4) + 1;
  const bool negative = (byte_at(matrix, layout.sign_offset_bytes(row, col)) >> row % 8 & 1) != 0;
  return negative ? -static_cast<int>(magnitude) : static_cast<int>(magnitude);
}

int integer_weight_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  const unsigned packed = byte_at(matrix, layout.code_offset_bytes(row, col));
  if (layout.type == TileType::q8) return static_cast<std::int8_t>(packed);
  const unsigned nibble = TileLayout::in_high_nibble(col) ? packed >> 4 : packed & 15;
  return (static_cast<int>(nibble) - 8) * sub_scale_at(layout, matrix, row, col);
}

float row_scale_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row) {
  INVARIANT(layout.type != TileType::bf16);
  return base::load_le<float>(matrix, layout.row_scales_offset_bytes + row * sizeof(float));
}

float weight_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row, std::uint64_t col) {
  if (layout.type == TileType::bf16)
    return bf16_to_f32(base::load_le<std::uint16_t>(matrix, layout.code_offset_bytes(row, col)));
  return static_cast<float>(integer_weight_at(layout, matrix, row, col)) * row_scale_at(layout, matrix, row);
}

double bits_per_weight(TileType type, std::uint64_t rows, std::uint64_t cols) {
  const auto weights = static_cast<double>(rows) * static_cast<double>(cols);
  const double row_scales = 32.0 * static_cast<double>(rows);
  switch (type) {
    case TileType::bf16: return 16;
    case TileType::q8: return 8 + row_scales / weights;
    case TileType::q4: {
      const auto groups = static_cast<double>(rows * base::divide_up(cols, kGroupCols));
      return 4 + (5 * groups + row_scales) / weights;
    }
  }
  INVARIANT(!"a TileType without bits");
}

}  // namespace sluice::format
