#include "convert/panel_encoder.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "base/invariant.h"
#include "format/tensor.h"

namespace sluice::convert {
namespace {

using format::TileLayout;
using format::TileType;

// Within a panel the codes of a row lie at a constant step, whatever the tile: 256 bytes for each pair
// (bf16), quad (q8) or pair of quads (q4) of columns, and a word of the row's in them. format/tile.h has the
// general formula; the tests compare the two.
constexpr std::size_t kRowBytes = 4;
constexpr std::uint32_t kZeroNibbles = 0x88888888;  // code 0 is stored as 8
// Rows a multiple of a page apart would share the cache's few lines of one place.
constexpr std::size_t kStrideWords = 16;

std::size_t words_of_row(const TileLayout& layout) {
  return static_cast<std::size_t>(layout.panel_code_bytes / (format::kPanelRows * sizeof(std::uint32_t)));
}

std::span<std::byte> bytes_of(std::uint32_t* words, std::size_t count) {
  return std::as_writable_bytes(std::span(words, count));
}

}  // namespace

void PanelEncoder::begin(const TileLayout& layout, EncodedPanel& panel) {
  const bool q4 = layout.type == TileType::q4;
  blocks_ = base::divide_up(static_cast<std::size_t>(layout.padded_cols), kBlockCols);
  row_.assign(blocks_ * kBlockCols, 0.0f);
  stride_ = base::align_up(std::max(words_of_row(layout), q4 ? blocks_ * kBlockCols / 8 : 0), kStrideWords) +
            kStrideWords;
  words_.resize(kInterleaveRows * stride_);
  sub_scales_.assign(q4 ? format::kPanelRows * blocks_ * kBlockGroups : 0, 1);
  panel.magnitudes.assign(q4 ? layout.panel_tiles * format::kMagnitudeBytesPerTile : 0, std::byte{0});
  panel.signs.assign(q4 ? layout.panel_tiles * format::kSignBytesPerTile : 0, std::byte{0});
  panel.row_scales.assign(layout.type == TileType::bf16 ? 0 : format::kPanelRows * sizeof(float),
                          std::byte{0});
  panel.error = {};
}

/// `fill_row(row)` writes the words of a row.
template <typename FillRow>
void PanelEncoder::encode_strips(const TileLayout& layout, std::size_t row_count, base::MutableBytes codes,
                                 const FillRow& fill_row) {
  INVARIANT(row_count <= format::kPanelRows && codes.size() == layout.panel_code_bytes);
  const std::size_t words = words_of_row(layout);
  for (std::size_t first = 0; first < format::kPanelRows; first += kInterleaveRows) {
    for (std::size_t row = first; row < first + kInterleaveRows; ++row) {
      if (row < row_count) {
        fill_row(row);
      } else {
        std::fill_n(words_of(row), words, layout.type == TileType::q4 ? kZeroNibbles : 0);
      }
    }
    kernels_.interleave(words_.data(), stride_, words, codes.data() + first * kRowBytes);
  }
}

void PanelEncoder::encode(const TileLayout& layout, std::span<const float> rows, base::MutableBytes codes,
                          EncodedPanel& panel, const Compensation* compensation) {
  INVARIANT(rows.size() % layout.cols == 0);
  begin(layout, panel);
  encode_strips(layout, rows.size() / layout.cols, codes, [&](std::size_t row) {
    std::ranges::copy(rows.subspan(row * layout.cols, layout.cols), row_.begin());
    quantize(layout, row, panel, compensation);
  });
  store_sub_scales(layout, panel);
}

bool PanelEncoder::encode_bf16(const TileLayout& layout, base::Bytes rows, base::MutableBytes codes,
                               EncodedPanel& panel, const Compensation* compensation) {
  const std::size_t row_bytes = layout.cols * sizeof(std::uint16_t);
  INVARIANT(rows.size() % row_bytes == 0);
  begin(layout, panel);
  // Values may begin at an odd address in a file, and then in memory.
  const bool even = reinterpret_cast<std::uintptr_t>(rows.data()) % sizeof(std::uint16_t) == 0;
  std::vector<std::uint16_t> copy(even ? 0 : layout.cols);
  bool finite = true;
  encode_strips(layout, rows.size() / row_bytes, codes, [&](std::size_t row) {
    const base::Bytes bytes = rows.subspan(row * row_bytes, row_bytes);
    if (layout.type == TileType::bf16) {
      const auto words = bytes_of(words_of(row), words_of_row(layout));
      std::ranges::copy(bytes, words.begin());
      std::ranges::fill(words.subspan(row_bytes), std::byte{0});
      finite &= kernels_.finite_bf16(reinterpret_cast<const std::uint16_t*>(words.data()), layout.cols);
      return;
    }
    if (!even) std::memcpy(copy.data(), bytes.data(), row_bytes);
    const auto* bits = even ? reinterpret_cast<const std::uint16_t*>(bytes.data()) : copy.data();
    finite &= kernels_.widen_bf16(bits, layout.cols, row_.data());
    if (finite) quantize(layout, row, panel, compensation);
  });
  if (finite) store_sub_scales(layout, panel);
  return finite;
}

/// What is in row_.
void PanelEncoder::quantize(const TileLayout& layout, std::size_t row, EncodedPanel& panel,
                            const Compensation* compensation) {
  switch (layout.type) {
    case TileType::bf16: {
      const auto words = bytes_of(words_of(row), words_of_row(layout));
      for (std::size_t col = 0; col < layout.padded_cols; ++col) {
        const std::uint16_t bits = format::f32_to_bf16(row_[col]);
        std::memcpy(&words[2 * col], &bits, sizeof(bits));
        const auto weight = static_cast<double>(row_[col]);
        const double difference = weight - static_cast<double>(format::bf16_to_f32(bits));
        panel.error += {difference * difference, weight * weight};
      }
      return;
    }
    case TileType::q8: {
      RowError error;
      const float scale = kernels_.quantize_q8(row_.data(), layout.padded_cols,
                                               reinterpret_cast<std::int8_t*>(words_of(row)), error);
      base::store_le(panel.row_scales, row * sizeof(float), scale);
      panel.error += {error.squared_error, error.squared_weights};
      return;
    }
    case TileType::q4:
      if (compensation == nullptr) {
        quantize_q4(row, panel);
      } else {
        compensate_q4(layout, row, *compensation, panel);
      }
      return;
  }
}

void PanelEncoder::quantize_q4(std::size_t row, EncodedPanel& panel) {
  RowError error;
  const float scale = kernels_.quantize_q4(row_.data(), blocks_, words_of(row),
                                           &sub_scales_[row * blocks_ * kBlockGroups], error);
  base::store_le(panel.row_scales, row * sizeof(float), scale);
  panel.error += {error.squared_error, error.squared_weights};
}

void PanelEncoder::compensate_q4(const TileLayout& layout, std::size_t row, const Compensation& compensation,
                                 EncodedPanel& panel) {
  const std::span<const float> weights = std::span(row_).first(layout.padded_cols);
  Q4Row result;
  quantize_row_q4(weights, compensation, result);
  base::store_le(panel.row_scales, row * sizeof(float), result.scale);
  std::ranges::copy(result.sub_scales, &sub_scales_[row * blocks_ * kBlockGroups]);
  std::uint32_t* const words = words_of(row);
  std::fill_n(words, words_of_row(layout), 0);
  for (std::size_t col = 0; col < weights.size(); ++col) {
    const int code = result.codes[col];
    const std::size_t shift = col % 4 * 8 + (TileLayout::in_high_nibble(col) ? 4 : 0);
    words[col / 8] |= static_cast<std::uint32_t>(code + 8) << shift;
    const auto weight = static_cast<double>(weights[col]);
    const int integer = code * result.sub_scales[col / format::kGroupCols];
    const double difference = weight - static_cast<double>(result.scale * static_cast<float>(integer));
    panel.error += {difference * difference, weight * weight};
  }
}

void PanelEncoder::store_sub_scales(const TileLayout& layout, EncodedPanel& panel) const {
  if (layout.type != TileType::q4) return;
  const std::size_t stride = blocks_ * kBlockGroups;
  for (std::size_t group = 0; group < layout.padded_cols / format::kGroupCols; ++group) {
    const std::uint64_t col = group * format::kGroupCols;
    std::byte* const magnitudes =
        &panel.magnitudes[layout.magnitude_offset_bytes(0, col) - layout.magnitudes_offset_bytes];
    std::byte* const signs = &panel.signs[layout.sign_offset_bytes(0, col) - layout.signs_offset_bytes];
    std::array<std::uint8_t, format::kPanelRows> bits;      // of the magnitude
    std::array<std::uint8_t, format::kPanelRows> negative;  // 0 or 1
    for (std::size_t row = 0; row < format::kPanelRows; ++row) {
      const int sub_scale = sub_scales_[row * stride + group];
      negative[row] = static_cast<std::uint8_t>(sub_scale < 0);
      bits[row] = static_cast<std::uint8_t>((sub_scale < 0 ? -sub_scale : sub_scale) - 1);
    }
    for (std::size_t row = 0; row < 32; ++row)
      magnitudes[row] = static_cast<std::byte>(bits[row] | bits[row + 32] << 4);
    // The product brings byte i's lowest bit to bit 56 + i.
    for (std::size_t byte = 0; byte < format::kPanelRows / 8; ++byte)
      signs[byte] = static_cast<std::byte>(
          base::load_le<std::uint64_t>(std::as_bytes(std::span(negative)), byte * 8) * 0x0102040810204080u >>
          56);
  }
}

}  // namespace sluice::convert
