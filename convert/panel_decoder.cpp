// Decodes panels for exports. The offsets are those of format/tile.h with everything constant taken out of
// the loops; the tests compare every weight with format::weight_at(). Pure functions, thread-safe.

#include "convert/panel_decoder.h"

#include <algorithm>
#include <cstring>

#include "base/invariant.h"
#include "format/tensor.h"

namespace sluice::convert {
namespace {

using format::TileLayout;
using format::TileType;

void decode_bf16(const TileLayout& layout, const std::byte* codes, std::uint64_t n, float* out) {
  for (std::uint64_t col = 0; col < layout.cols; ++col) {
    const std::uint64_t tile = col / format::kBf16TileCols * 2048;
    const std::uint64_t at = (tile + col % format::kBf16TileCols / 2 * 128 + n * 2 + col % 2) * 2;
    std::uint16_t bits;
    std::memcpy(&bits, codes + at, sizeof(bits));
    out[col] = format::bf16_to_f32(bits);
  }
}

void decode_q8(const TileLayout& layout, const std::byte* codes, std::uint64_t n, float scale, float* out) {
  for (std::uint64_t col = 0; col < layout.cols; ++col) {
    // A quad of columns takes 256 bytes; 16 quads are a tile, and tiles follow each other.
    const std::uint64_t at = col / 4 * 256 + n * 4 + col % 4;
    out[col] = static_cast<float>(static_cast<std::int8_t>(codes[at])) * scale;
  }
}

/// The sub-scale of a q4 group, as format::sub_scale_at() computes it.
int sub_scale(const StoredPanel& panel, std::uint64_t group, std::uint64_t n) {
  const std::uint64_t tile = group / format::kGroupsPerTile;
  const std::uint64_t in_tile = group % format::kGroupsPerTile;
  const auto packed = std::to_integer<unsigned>(
      panel.magnitudes[tile * format::kMagnitudeBytesPerTile + in_tile * 32 + n % 32]);
  const auto signs =
      std::to_integer<unsigned>(panel.signs[tile * format::kSignBytesPerTile + in_tile * 8 + n / 8]);
  const int magnitude = static_cast<int>(n < 32 ? packed & 15 : packed >> 4) + 1;
  return (signs >> n % 8 & 1) != 0 ? -magnitude : magnitude;
}

void decode_q4(const TileLayout& layout, const StoredPanel& panel, std::uint64_t n, float scale, float* out) {
  for (std::uint64_t begin = 0; begin < layout.cols; begin += format::kGroupCols) {
    // Code times sub-scale is the integer that products use, so it is formed first, exactly; the float scale
    // comes last, as in format::weight_at().
    const int sub = sub_scale(panel, begin / format::kGroupCols, n);
    const std::uint64_t end = std::min(begin + format::kGroupCols, layout.cols);
    for (std::uint64_t col = begin; col < end; ++col) {
      const auto packed = std::to_integer<unsigned>(panel.codes[col / 8 * 256 + n * 4 + col % 4]);
      const auto nibble = static_cast<int>(TileLayout::in_high_nibble(col) ? packed >> 4 : packed & 15);
      out[col] = static_cast<float>((nibble - 8) * sub) * scale;
    }
  }
}

void decode_q6(const TileLayout& layout, const StoredPanel& panel, std::uint64_t n, float scale, float* out) {
  // The shift has a part for the row and one for the quad; only the latter changes within a row.
  const unsigned shift = TileLayout::high_bits_shift(n, 0);
  for (std::uint64_t col = 0; col < layout.cols; ++col) {
    const std::byte* const pair = panel.codes.data() + col / 8 * format::kQ6PairBytes;
    const auto packed = std::to_integer<unsigned>(pair[n * 4 + col % 4]);
    const auto highs = std::to_integer<unsigned>(pair[256 + n / 16 * 32 + n % 8 * 4 + col % 4]);
    const unsigned odd = col / 4 % 2;
    const unsigned code = (packed >> odd * 4 & 15) | (highs >> (shift + odd * 2) & 3) << 4;
    const std::uint64_t group = col / format::kGroupCols;
    const auto sub = std::to_integer<unsigned>(panel.magnitudes[group * 16 + n % 16]) >> n / 16 * 2 & 3;
    out[col] = static_cast<float>((static_cast<int>(code) - 32) * static_cast<int>(sub + 1)) * scale;
  }
}

void decode_mx4(const TileLayout& layout, const StoredPanel& panel, std::uint64_t n, float* out) {
  for (std::uint64_t begin = 0; begin < layout.cols; begin += format::kMx4BlockCols) {
    const auto exponent =
        std::to_integer<unsigned>(panel.exponents[begin / format::kMx4BlockCols * format::kPanelRows + n]);
    const std::uint64_t end = std::min(begin + format::kMx4BlockCols, layout.cols);
    for (std::uint64_t col = begin; col < end; ++col) {
      const auto packed = std::to_integer<unsigned>(panel.codes[col / 8 * 256 + n * 4 + col % 4]);
      out[col] = format::mx4_to_f32(TileLayout::in_high_nibble(col) ? packed >> 4 : packed & 15, exponent);
    }
  }
}

}  // namespace

void decode_panel(const TileLayout& layout, const StoredPanel& panel, std::uint64_t rows,
                  std::span<float> out) {
  INVARIANT(rows <= format::kPanelRows && out.size() == rows * layout.cols);
  INVARIANT(panel.codes.size() == layout.panel_code_bytes);
  for (std::uint64_t n = 0; n < rows; ++n) {
    float* const row = out.data() + n * layout.cols;
    if (layout.type == TileType::bf16) {
      decode_bf16(layout, panel.codes.data(), n, row);
      continue;
    }
    if (layout.type == TileType::mx4) {
      decode_mx4(layout, panel, n, row);
      continue;
    }
    const auto scale = base::load_le<float>(panel.row_scales, n * sizeof(float));
    switch (layout.type) {
      case TileType::bf16:
      case TileType::mx4: break;
      case TileType::q8: decode_q8(layout, panel.codes.data(), n, scale, row); break;
      case TileType::q6: decode_q6(layout, panel, n, scale, row); break;
      case TileType::q4: decode_q4(layout, panel, n, scale, row); break;
    }
  }
}

}  // namespace sluice::convert
