#include "convert/panel_encoder.h"

#include <algorithm>
#include <cstdlib>

#include "base/bytes.h"
#include "base/invariant.h"
#include "format/tensor.h"

namespace sluice::convert {
namespace {

using format::TileLayout;
using format::TileType;

void set_bits(std::vector<std::byte>& plane, std::uint64_t offset, unsigned bits) {
  plane[static_cast<std::size_t>(offset)] |= static_cast<std::byte>(bits);
}

void encode_bf16_row(const TileLayout& layout, std::size_t row, std::span<const float> weights,
                     EncodedPanel& panel) {
  for (std::size_t col = 0; col < weights.size(); ++col) {
    const std::uint16_t bits = format::f32_to_bf16(weights[col]);
    base::store_le(panel.codes, layout.code_offset_bytes(row, col), bits);
    const double w = static_cast<double>(weights[col]);
    const double difference = w - static_cast<double>(format::bf16_to_f32(bits));
    panel.error += {difference * difference, w * w};
  }
}

void encode_q8_row(const TileLayout& layout, std::size_t row, std::span<const float> weights,
                   EncodedPanel& panel) {
  std::vector<std::int8_t> codes(weights.size());
  const float scale = quantize_row_q8(weights, codes);
  base::store_le(panel.row_scales, row * sizeof(float), scale);
  for (std::size_t col = 0; col < weights.size(); ++col) {
    base::store_le(panel.codes, layout.code_offset_bytes(row, col), codes[col]);
    const double w = static_cast<double>(weights[col]);
    const double difference = w - static_cast<double>(scale) * codes[col];
    panel.error += {difference * difference, w * w};
  }
}

void encode_q4_row(const TileLayout& layout, std::size_t row, std::span<const float> weights,
                   EncodedPanel& panel) {
  std::vector<float> padded(weights.begin(), weights.end());
  padded.resize(layout.padded_cols);
  Q4Row result;
  quantize_row_q4(padded, result);
  base::store_le(panel.row_scales, row * sizeof(float), result.scale);
  for (std::size_t col = 0; col < padded.size(); ++col) {
    const int code = result.codes[col];
    const int sub_scale = result.sub_scales[col / format::kGroupCols];
    const auto nibble = static_cast<unsigned>(code + 8);
    // Planes start at zero, and each nibble is set once.
    set_bits(panel.codes, layout.code_offset_bytes(row, col),
             TileLayout::in_high_nibble(col) ? nibble << 4 : nibble);
    const double w = static_cast<double>(padded[col]);
    const double difference = w - static_cast<double>(result.scale) * (code * sub_scale);
    panel.error += {difference * difference, w * w};
    if (col % format::kGroupCols != 0) continue;
    const auto magnitude = static_cast<unsigned>(std::abs(sub_scale) - 1);
    set_bits(panel.magnitudes, layout.magnitude_offset_bytes(row, col) - layout.magnitudes_offset_bytes,
             row < 32 ? magnitude : magnitude << 4);
    if (sub_scale < 0)
      set_bits(panel.signs, layout.sign_offset_bytes(row, col) - layout.signs_offset_bytes, 1u << row % 8);
  }
}

}  // namespace

void encode_panel(const TileLayout& layout, std::span<const float> rows, EncodedPanel& panel) {
  const std::size_t cols = layout.cols;
  const std::size_t row_count = rows.size() / cols;
  INVARIANT(rows.size() % cols == 0 && row_count <= format::kPanelRows);
  const bool q4 = layout.type == TileType::q4;
  panel.codes.assign(layout.panel_code_bytes, std::byte{0});
  panel.magnitudes.assign(q4 ? layout.panel_tiles * format::kMagnitudeBytesPerTile : 0, std::byte{0});
  panel.signs.assign(q4 ? layout.panel_tiles * format::kSignBytesPerTile : 0, std::byte{0});
  panel.row_scales.assign(layout.type == TileType::bf16 ? 0 : format::kPanelRows * sizeof(float),
                          std::byte{0});
  panel.error = {};
  for (std::size_t row = 0; row < row_count; ++row) {
    const auto weights = rows.subspan(row * cols, cols);
    switch (layout.type) {
      case TileType::bf16: encode_bf16_row(layout, row, weights, panel); break;
      case TileType::q8: encode_q8_row(layout, row, weights, panel); break;
      case TileType::q4: encode_q4_row(layout, row, weights, panel); break;
    }
  }
  if (!q4) return;
  // Rows that the matrix does not have: code 0, which is stored as 8.
  const std::vector<float> nothing(cols);
  for (std::size_t row = row_count; row < format::kPanelRows; ++row)
    encode_q4_row(layout, row, nothing, panel);
}

}  // namespace sluice::convert
