// Encodes strips of 16 rows into a panel's codes and planes.
//
// encode() and encode_bf16() quantize the rows of a strip one by one into `words_`, where each row has its
// codes in the order of its columns, and then interleave the 16 rows into the panel. Several threads encode
// strips of the same panel, each with an encoder of its own: strips write disjoint bytes of the codes.
// Sub-scales are the exception, because four or eight rows of different strips share their bytes. They are
// kept one a byte until the thread that finishes the last strip packs them (end(), which counts strips_left
// down atomically).
//
// The bytes do not depend on who encodes which strip, or on the kernels (kernels.h).

#include "convert/panel_encoder.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "base/invariant.h"
#include "format/mx/mx_rows.h"
#include "format/tensor.h"

namespace sluice::convert {
namespace {

using format::TileLayout;
using format::TileType;

// Within a panel the codes of a row lie at a constant step, also across tiles: 256 bytes for each pair
// (bf16), quad (q8) or pair of quads (q4) of columns, in which the row has one word of 4 bytes. q6 has 384
// bytes for a pair of quads (interleave_q6). format/tile.h has the general formula; the tests compare the
// two.
constexpr std::size_t kRowBytes = 4;
// Code 0 as it is stored, in all nibbles or bytes of a word.
constexpr std::uint32_t kZeroNibbles = 0x88888888;
constexpr std::uint32_t kZeroCodesOfQ6 = 0x20202020;
// Rows in `words_` whose distance is a multiple of a page would compete for the same few cache lines.
constexpr std::size_t kStrideWords = 16;

/// Words of a row in the strip's buffer, where q6 has one byte for each code.
std::size_t words_of_row(const TileLayout& layout) {
  if (layout.type == TileType::q6) return static_cast<std::size_t>(layout.padded_cols / 4);
  return static_cast<std::size_t>(layout.panel_code_bytes / (format::kPanelRows * sizeof(std::uint32_t)));
}

bool has_sub_scales(const TileLayout& layout) { return layout.panel_magnitude_bytes() > 0; }

/// The words of a row of zeros, as the code 0 is stored: q4 stores code + 8, q6 code + 32.
std::uint32_t zero_codes(TileType type) {
  switch (type) {
    case TileType::bf16:
    case TileType::q8: return 0;
    case TileType::q6: return kZeroCodesOfQ6;
    case TileType::q4: return kZeroNibbles;
    case TileType::mx4: return 0;
  }
  INVARIANT(!"a TileType without zero");
}

/// Kernel blocks of 256 columns in a row with sub-scales.
std::size_t blocks_of_row(const TileLayout& layout) {
  return static_cast<std::size_t>(base::divide_up(layout.padded_cols, kBlockCols));
}

std::size_t sub_scales_of_row(const TileLayout& layout) { return blocks_of_row(layout) * kBlockGroups; }

std::span<std::byte> bytes_of(std::uint32_t* words, std::size_t count) {
  return std::as_writable_bytes(std::span(words, count));
}

// Two quads of q6 codes of a row, one byte each, the first in the lowest byte. low_bits() packs their low
// four bits into a word; high_bits() packs their high two bits and leaves room for those of another row.
std::uint32_t low_bits(std::uint64_t codes) {
  codes &= 0x0f0f0f0f0f0f0f0f;
  return static_cast<std::uint32_t>(codes) | static_cast<std::uint32_t>(codes >> 32) << 4;
}
std::uint32_t high_bits(std::uint64_t codes) {
  codes = codes >> 4 & 0x0303030303030303;
  return static_cast<std::uint32_t>(codes) | static_cast<std::uint32_t>(codes >> 32) << 2;
}

/// Writes the q6 rows of a strip, which are `stride` words apart, to their places in a panel (format/tile.h).
void interleave_q6(const std::uint32_t* words, std::size_t stride, std::size_t pairs, std::size_t strip,
                   std::byte* codes) {
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    std::byte* const low = codes + pair * format::kQ6PairBytes + strip * kStripRows * kRowBytes;
    std::byte* const high = codes + pair * format::kQ6PairBytes + 256 + strip * 32;
    for (std::size_t row = 0; row < 8; ++row) {
      std::uint64_t first;
      std::uint64_t second;
      std::memcpy(&first, words + row * stride + pair * 2, sizeof(first));
      std::memcpy(&second, words + (row + 8) * stride + pair * 2, sizeof(second));
      const std::uint32_t parts[3] = {low_bits(first), low_bits(second),
                                      high_bits(first) | high_bits(second) << 4};
      std::memcpy(low + row * kRowBytes, &parts[0], sizeof(parts[0]));
      std::memcpy(low + (row + 8) * kRowBytes, &parts[1], sizeof(parts[1]));
      std::memcpy(high + row * kRowBytes, &parts[2], sizeof(parts[2]));
    }
  }
}

/// Packs four rows, 16 apart, into each byte: sub-scales are 1 to 4, stored as 0 to 3.
void store_q6_sub_scales(const TileLayout& layout, EncodedPanel& panel) {
  const std::size_t stride = sub_scales_of_row(layout);
  for (std::size_t group = 0; group < layout.padded_cols / format::kGroupCols; ++group) {
    std::byte* const magnitudes =
        &panel.magnitudes[layout.magnitude_offset_bytes(0, group * format::kGroupCols) -
                          layout.magnitudes_offset_bytes];
    for (std::size_t row = 0; row < format::kPanelRows; ++row)
      magnitudes[row % 16] |=
          static_cast<std::byte>((panel.sub_scales[row * stride + group] - 1) << row / 16 * 2);
  }
}

/// Packs the magnitudes of rows n and n + 32 into one byte, and the signs of eight neighbouring rows into
/// another.
void store_q4_sub_scales(const TileLayout& layout, EncodedPanel& panel) {
  const std::size_t stride = sub_scales_of_row(layout);
  for (std::size_t group = 0; group < layout.padded_cols / format::kGroupCols; ++group) {
    const std::uint64_t col = group * format::kGroupCols;
    std::byte* const magnitudes =
        &panel.magnitudes[layout.magnitude_offset_bytes(0, col) - layout.magnitudes_offset_bytes];
    std::byte* const signs = &panel.signs[layout.sign_offset_bytes(0, col) - layout.signs_offset_bytes];
    std::array<std::uint8_t, format::kPanelRows> bits;      // of the magnitude
    std::array<std::uint8_t, format::kPanelRows> negative;  // 0 or 1
    for (std::size_t row = 0; row < format::kPanelRows; ++row) {
      const int sub_scale = panel.sub_scales[row * stride + group];
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

}  // namespace

void EncodedPanel::begin(const TileLayout& layout) {
  exponents.assign(layout.panel_exponent_bytes(), std::byte{0});
  magnitudes.assign(layout.panel_magnitude_bytes(), std::byte{0});
  signs.assign(layout.panel_sign_bytes(), std::byte{0});
  row_scales.assign(has_row_scales(layout.type) ? format::kPanelRows * sizeof(float) : 0, std::byte{0});
  // Sub-scale 1 for rows of padding: 0 does not exist, and their codes are 0.
  sub_scales.assign(has_sub_scales(layout) ? format::kPanelRows * sub_scales_of_row(layout) : 0, 1);
  errors = {};
  strips_left = kPanelStrips;
}

QuantError EncodedPanel::error() const {
  QuantError sum;
  for (const QuantError& error : errors) sum += error;
  return sum;
}

/// Sizes the buffers for the strip's layout.
void PanelEncoder::begin(const Strip& strip) {
  const std::size_t cols = blocks_of_row(strip.layout) * kBlockCols;
  row_.assign(cols, 0.0f);
  // Rows with sub-scales are worked on in whole blocks.
  const std::size_t words = has_sub_scales(strip.layout)
                                ? cols * words_of_row(strip.layout) / strip.layout.padded_cols
                                : words_of_row(strip.layout);
  stride_ = base::align_up(words, kStrideWords) + kStrideWords;
  words_.resize(kStripRows * stride_);
}

/// Fills the strip's rows, missing ones with zero codes, and interleaves them into the panel's codes.
/// `fill_row(row)` writes the words of one row.
template <typename FillRow>
void PanelEncoder::fill_rows(const Strip& strip, std::size_t row_count, base::MutableBytes codes,
                             const FillRow& fill_row) {
  INVARIANT(row_count <= kStripRows && codes.size() == strip.layout.panel_code_bytes);
  const std::size_t words = words_of_row(strip.layout);
  for (std::size_t row = 0; row < kStripRows; ++row) {
    if (row < row_count) {
      fill_row(row);
    } else {
      std::fill_n(words_of(row), words, zero_codes(strip.layout.type));
    }
  }
  if (strip.layout.type == TileType::q6) {
    interleave_q6(words_.data(), stride_, words / 2, strip.first_row / kStripRows, codes.data());
  } else {
    kernels_.interleave(words_.data(), stride_, words, codes.data() + strip.first_row * kRowBytes);
  }
}

/// The thread that ends the last strip of a panel packs the sub-scales, of which rows of all strips share
/// bytes. fetch_sub orders the other threads' sub-scales before it.
void PanelEncoder::end(const Strip& strip) {
  if (std::atomic_ref(strip.panel.strips_left).fetch_sub(1) > 1) return;
  if (strip.layout.type == TileType::q6) store_q6_sub_scales(strip.layout, strip.panel);
  if (strip.layout.type == TileType::q4) store_q4_sub_scales(strip.layout, strip.panel);
}

void PanelEncoder::encode(const TileLayout& layout, std::size_t index, std::span<const float> rows,
                          base::MutableBytes codes, EncodedPanel& panel, const GptqFactors* factors) {
  INVARIANT(index < kPanelStrips && rows.size() % layout.cols == 0);
  const Strip strip{layout, index * kStripRows, panel, factors, panel.errors[index]};
  begin(strip);
  fill_rows(strip, rows.size() / layout.cols, codes, [&](std::size_t row) {
    std::ranges::copy(rows.subspan(row * layout.cols, layout.cols), row_.begin());
    quantize(strip, row);
  });
  end(strip);
}

bool PanelEncoder::encode_bf16(const TileLayout& layout, std::size_t index, base::Bytes rows,
                               base::MutableBytes codes, EncodedPanel& panel, const GptqFactors* factors) {
  const std::size_t row_bytes = layout.cols * sizeof(std::uint16_t);
  INVARIANT(index < kPanelStrips && rows.size() % row_bytes == 0);
  const Strip strip{layout, index * kStripRows, panel, factors, panel.errors[index]};
  begin(strip);
  // Values that begin at an odd offset in the file have an odd address in memory, too.
  const bool even = reinterpret_cast<std::uintptr_t>(rows.data()) % sizeof(std::uint16_t) == 0;
  std::vector<std::uint16_t> copy(even ? 0 : layout.cols);
  bool finite = true;
  fill_rows(strip, rows.size() / row_bytes, codes, [&](std::size_t row) {
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
    // After the first value that is not finite, the caller takes the path that names it, so nothing more is
    // computed.
    if (finite) quantize(strip, row);
  });
  if (finite) {
    end(strip);
  } else {
    // The caller encodes the strip once more, from floats.
    strip.error = {};
  }
  return finite;
}

void PanelEncoder::pack_mxfp4(const TileLayout& layout, std::size_t index, base::Bytes rows,
                              base::MutableBytes codes, EncodedPanel& panel) {
  const std::size_t row_bytes = format::mx_row_bytes(layout.cols);
  INVARIANT(index < kPanelStrips && layout.type == TileType::mx4 && rows.size() % row_bytes == 0);
  const Strip strip{layout, index * kStripRows, panel, nullptr, panel.errors[index]};
  begin(strip);
  fill_rows(strip, rows.size() / row_bytes, codes, [&](std::size_t row) {
    const base::Bytes released = rows.subspan(row * row_bytes, row_bytes);
    const std::size_t words = layout.cols / 8;
    for (std::size_t word = 0; word < words; ++word)
      words_of(row)[word] = format::to_tile_order(base::load_le<std::uint32_t>(released, word * 4));
    std::fill(words_of(row) + words, words_of(row) + words_of_row(layout), 0u);
    const base::Bytes exponents = released.subspan(format::mx_code_bytes(layout.cols));
    for (std::size_t block = 0; block < exponents.size(); ++block)
      panel.exponents[block * format::kPanelRows + strip.first_row + row] = exponents[block];
  });
  end(strip);
}

/// Quantizes row_ into words_of(row).
void PanelEncoder::quantize(const Strip& strip, std::size_t row) {
  switch (strip.layout.type) {
    case TileType::bf16: {
      const auto words = bytes_of(words_of(row), words_of_row(strip.layout));
      for (std::size_t col = 0; col < strip.layout.padded_cols; ++col) {
        const std::uint16_t bits = format::f32_to_bf16(row_[col]);
        std::memcpy(&words[2 * col], &bits, sizeof(bits));
        const auto weight = static_cast<double>(row_[col]);
        const double difference = weight - static_cast<double>(format::bf16_to_f32(bits));
        strip.error += {difference * difference, weight * weight};
      }
      return;
    }
    case TileType::q8: {
      RowError error;
      const float scale = kernels_.quantize_q8(row_.data(), strip.layout.padded_cols,
                                               reinterpret_cast<std::int8_t*>(words_of(row)), error);
      base::store_le(strip.panel.row_scales, (strip.first_row + row) * sizeof(float), scale);
      strip.error += {error.squared_error, error.squared_weights};
      return;
    }
    case TileType::q6: return quantize_with_sub_scales(strip, row);
    case TileType::q4:
      if (strip.factors == nullptr) {
        quantize_with_sub_scales(strip, row);
      } else {
        quantize_q4_with_factors(strip, row);
      }
      return;
    case TileType::mx4: INVARIANT(!"no values are rounded to mx4");
  }
}

void PanelEncoder::quantize_with_sub_scales(const Strip& strip, std::size_t row) {
  const std::size_t row_of_panel = strip.first_row + row;
  std::int8_t* const sub_scales = &strip.panel.sub_scales[row_of_panel * sub_scales_of_row(strip.layout)];
  RowError error;
  const std::size_t blocks = blocks_of_row(strip.layout);
  const float scale =
      strip.layout.type == TileType::q4
          ? kernels_.quantize_q4(row_.data(), blocks, words_of(row), sub_scales, error)
          : kernels_.quantize_q6(row_.data(), blocks, reinterpret_cast<std::uint8_t*>(words_of(row)),
                                 sub_scales, error);
  base::store_le(strip.panel.row_scales, row_of_panel * sizeof(float), scale);
  strip.error += {error.squared_error, error.squared_weights};
}

/// GPTQ gives codes one by one, so they are packed here as the kernels pack theirs.
void PanelEncoder::quantize_q4_with_factors(const Strip& strip, std::size_t row) {
  const std::size_t row_of_panel = strip.first_row + row;
  const std::span<const float> weights = std::span(row_).first(strip.layout.padded_cols);
  Q4Row result;
  quantize_row_q4(weights, *strip.factors, result);
  base::store_le(strip.panel.row_scales, row_of_panel * sizeof(float), result.scale);
  std::ranges::copy(result.sub_scales,
                    &strip.panel.sub_scales[row_of_panel * sub_scales_of_row(strip.layout)]);
  std::uint32_t* const words = words_of(row);
  std::fill_n(words, words_of_row(strip.layout), 0);
  for (std::size_t col = 0; col < weights.size(); ++col) {
    const int code = result.codes[col];
    const std::size_t shift = col % 4 * 8 + (TileLayout::in_high_nibble(col) ? 4 : 0);
    words[col / 8] |= static_cast<std::uint32_t>(code + 8) << shift;
    const auto weight = static_cast<double>(weights[col]);
    const int integer = code * result.sub_scales[col / format::kGroupCols];
    const double difference = weight - static_cast<double>(result.scale * static_cast<float>(integer));
    strip.error += {difference * difference, weight * weight};
  }
}

}  // namespace sluice::convert
