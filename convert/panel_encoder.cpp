#include "convert/panel_encoder.h"

#include <cstdlib>
#include <cstring>

#include "base/bytes.h"
#include "base/invariant.h"
#include "format/tensor.h"

namespace sluice::convert {
namespace {

using format::TileLayout;
using format::TileType;

// Within a panel the codes of a row lie at a constant step, whatever the tile: 256 bytes for each pair
// (bf16), quad (q8) or pair of quads (q4) of columns, and the row's four bytes in them. format/tile.h has the
// general formula; the tests compare the two.
constexpr std::size_t kStepBytes = 256;
constexpr std::size_t kRowBytes = 4;

/// Sums in four strands, which the compiler keeps side by side; the order is fixed.
class ErrorSum {
 public:
  void add(std::size_t col, float weight, float decoded) {
    const double w = static_cast<double>(weight);
    const double difference = w - static_cast<double>(decoded);
    error_[col % 4] += difference * difference;
    weights_[col % 4] += w * w;
  }
  [[nodiscard]] QuantError total() const {
    return {(error_[0] + error_[1]) + (error_[2] + error_[3]),
            (weights_[0] + weights_[1]) + (weights_[2] + weights_[3])};
  }

 private:
  double error_[4] = {};
  double weights_[4] = {};
};

void encode_bf16_row(std::size_t row, std::span<const float> weights, EncodedPanel& panel) {
  std::byte* out = panel.codes.data() + row * kRowBytes;
  ErrorSum sum;
  for (std::size_t col = 0; col < weights.size(); ++col) {
    const std::uint16_t bits = format::f32_to_bf16(weights[col]);
    std::memcpy(out + col / 2 * kStepBytes + col % 2 * 2, &bits, sizeof(bits));
    sum.add(col, weights[col], format::bf16_to_f32(bits));
  }
  panel.error += sum.total();
}

void encode_q8_row(std::size_t row, std::span<const float> weights, EncodedPanel& panel) {
  std::vector<std::int8_t> codes(weights.size());
  const float scale = quantize_row_q8(weights, codes);
  base::store_le(panel.row_scales, row * sizeof(float), scale);
  std::byte* out = panel.codes.data() + row * kRowBytes;
  ErrorSum sum;
  for (std::size_t col = 0; col < weights.size(); ++col) {
    out[col / 4 * kStepBytes + col % 4] = static_cast<std::byte>(codes[col]);
    sum.add(col, weights[col], scale * static_cast<float>(codes[col]));
  }
  panel.error += sum.total();
}

void encode_q4_row(const TileLayout& layout, std::size_t row, std::span<const float> weights,
                   EncodedPanel& panel, const Compensation* compensation) {
  std::vector<float> padded(weights.begin(), weights.end());
  padded.resize(layout.padded_cols);
  Q4Row result;
  if (compensation != nullptr) {
    quantize_row_q4(padded, *compensation, result);
  } else {
    quantize_row_q4(padded, result);
  }
  base::store_le(panel.row_scales, row * sizeof(float), result.scale);
  std::byte* out = panel.codes.data() + row * kRowBytes;
  ErrorSum sum;
  for (std::size_t group = 0; group < result.sub_scales.size(); ++group) {
    const int sub_scale = result.sub_scales[group];
    for (std::size_t col = group * format::kGroupCols; col < (group + 1) * format::kGroupCols; ++col) {
      const int code = result.codes[col];
      const auto nibble = static_cast<unsigned>(code + 8);
      // Planes start at zero, and each nibble is set once.
      out[col / 8 * kStepBytes + col % 4] |=
          static_cast<std::byte>(TileLayout::in_high_nibble(col) ? nibble << 4 : nibble);
      sum.add(col, padded[col], result.scale * static_cast<float>(code * sub_scale));
    }
    const std::uint64_t col = group * format::kGroupCols;
    const auto magnitude = static_cast<unsigned>(std::abs(sub_scale) - 1);
    panel.magnitudes[layout.magnitude_offset_bytes(row, col) - layout.magnitudes_offset_bytes] |=
        static_cast<std::byte>(row < 32 ? magnitude : magnitude << 4);
    if (sub_scale < 0) {
      panel.signs[layout.sign_offset_bytes(row, col) - layout.signs_offset_bytes] |=
          static_cast<std::byte>(1u << row % 8);
    }
  }
  panel.error += sum.total();
}

}  // namespace

void encode_panel(const TileLayout& layout, std::span<const float> rows, EncodedPanel& panel,
                  const Compensation* compensation) {
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
      case TileType::bf16: encode_bf16_row(row, weights, panel); break;
      case TileType::q8: encode_q8_row(row, weights, panel); break;
      case TileType::q4: encode_q4_row(layout, row, weights, panel, compensation); break;
    }
  }
  if (!q4) return;
  // Rows that the matrix does not have: code 0, which is stored as 8.
  const std::vector<float> nothing(cols);
  for (std::size_t row = row_count; row < format::kPanelRows; ++row)
    encode_q4_row(layout, row, nothing, panel, nullptr);
}

}  // namespace sluice::convert
