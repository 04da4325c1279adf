#include "format/mx/mx_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/invariant.h"
#include "base/merkle.h"

namespace sluice::format {
namespace {

constexpr std::size_t kGgmlBlockBytes = 17;
constexpr std::size_t kCodeBytes = 16;  // of a block of 32 weights
// Up to this exponent every code is finite: 6 x 2^(252 - 127) is below 2^128.
constexpr unsigned kSafeExponent = 252;

/// Moves the four low nibbles to the low nibbles of the four bytes.
std::uint32_t spread(std::uint32_t nibbles) {
  nibbles = (nibbles | nibbles << 8) & 0x00ff00ff;
  return (nibbles | nibbles << 4) & 0x0f0f0f0f;
}

/// The reverse.
std::uint32_t gather(std::uint32_t nibbles) {
  nibbles &= 0x0f0f0f0f;
  nibbles = (nibbles | nibbles >> 4) & 0x00ff00ff;
  return (nibbles | nibbles >> 8) & 0xffff;
}

unsigned byte_at(base::Bytes bytes, std::size_t at) { return std::to_integer<unsigned>(bytes[at]); }

unsigned code_at(base::Bytes row, std::size_t col) {
  const unsigned packed = byte_at(row, col / 2);
  return col % 2 == 1 ? packed >> 4 : packed & 15;
}

std::size_t block_count(base::Bytes row) {
  INVARIANT(row.size() % kGgmlBlockBytes == 0);
  return row.size() / kGgmlBlockBytes;
}

}  // namespace

void mx_row_from_ggml(base::Bytes blocks, base::MutableBytes row) {
  INVARIANT(blocks.size() == row.size());
  const std::size_t count = block_count(row);
  for (std::size_t b = 0; b < count; ++b) {
    const base::Bytes block = blocks.subspan(b * kGgmlBlockBytes, kGgmlBlockBytes);
    row[count * kCodeBytes + b] = block[0];
    const base::MutableBytes codes = row.subspan(b * kCodeBytes, kCodeBytes);
    for (std::size_t i = 0; i < 8; ++i) {
      const unsigned first = byte_at(block, 1 + 2 * i);
      const unsigned second = byte_at(block, 2 + 2 * i);
      codes[i] = static_cast<std::byte>((first & 15) | (second & 15) << 4);
      codes[i + 8] = static_cast<std::byte>(first >> 4 | (second >> 4) << 4);
    }
  }
}

void mx_row_to_ggml(base::Bytes row, base::MutableBytes blocks) {
  INVARIANT(blocks.size() == row.size());
  const std::size_t count = block_count(row);
  for (std::size_t b = 0; b < count; ++b) {
    const base::MutableBytes block = blocks.subspan(b * kGgmlBlockBytes, kGgmlBlockBytes);
    block[0] = row[count * kCodeBytes + b];
    for (std::size_t j = 0; j < 16; ++j)
      block[1 + j] = static_cast<std::byte>(code_at(row, b * 32 + j) | code_at(row, b * 32 + 16 + j) << 4);
  }
}

std::optional<std::uint64_t> find_not_finite(base::Bytes row) {
  const std::size_t count = block_count(row);
  const base::Bytes exponents = row.subspan(count * kCodeBytes);
  for (std::size_t b = 0; b < count; ++b) {
    const unsigned exponent = byte_at(exponents, b);
    if (exponent <= kSafeExponent) continue;
    for (std::size_t col = b * kMx4BlockCols; col < (b + 1) * kMx4BlockCols; ++col)
      if (!std::isfinite(mx4_to_f32(code_at(row, col), exponent))) return col;
  }
  return std::nullopt;
}

void mx_row_to_floats(base::Bytes row, std::span<float> out) {
  INVARIANT(out.size() == block_count(row) * kMx4BlockCols);
  const base::Bytes exponents = row.subspan(mx_code_bytes(out.size()));
  for (std::size_t b = 0; b < exponents.size(); ++b) {
    // One half under the exponent: NaN for 255, like every weight of the block. The product of two floats is
    // the definition's value, exactly, and many times as fast.
    const float half = mx4_to_f32(1, byte_at(exponents, b));
    for (std::size_t col = b * kMx4BlockCols; col < (b + 1) * kMx4BlockCols; ++col) {
      const unsigned code = code_at(row, col);
      const float magnitude = static_cast<float>(kDoubledE2m1[code & 7]) * half;
      out[col] = code >= 8 ? -magnitude : magnitude;
    }
  }
}

std::uint32_t to_tile_order(std::uint32_t codes) { return spread(codes & 0xffff) | spread(codes >> 16) << 4; }

std::uint32_t to_released_order(std::uint32_t codes) { return gather(codes) | gather(codes >> 4) << 16; }

void mx_rows_of_panel(const TileLayout& layout, base::Bytes codes, base::Bytes exponents, std::uint64_t rows,
                      base::MutableBytes out) {
  INVARIANT(layout.type == TileType::mx4 && layout.cols % kMx4BlockCols == 0 && rows <= kPanelRows);
  INVARIANT(codes.size() == layout.panel_code_bytes && exponents.size() == layout.panel_exponent_bytes());
  const std::size_t row_bytes = mx_row_bytes(layout.cols);
  INVARIANT(out.size() == rows * row_bytes);
  for (std::size_t n = 0; n < rows; ++n) {
    const base::MutableBytes row = out.subspan(n * row_bytes, row_bytes);
    for (std::size_t word = 0; word < layout.cols / 8; ++word)
      base::store_le(row, word * 4,
                     to_released_order(base::load_le<std::uint32_t>(codes, word * 256 + n * 4)));
    const base::MutableBytes of_row = row.subspan(mx_code_bytes(layout.cols));
    for (std::size_t block = 0; block < of_row.size(); ++block)
      of_row[block] = exponents[block * kPanelRows + n];
  }
}

base::Sha256 mx_source_digest(const ContainerReader& container, const ContainerTensor& tensor) {
  const TileLayout layout = tensor.tile_layout();
  const base::File file = base::File::open_read(container.path());
  std::vector<std::byte> codes(layout.panel_code_bytes);
  std::vector<std::byte> exponents(layout.panel_exponent_bytes());
  std::vector<std::byte> rows;
  base::LeafHasher hasher;
  for (std::uint64_t panel = 0; panel < layout.panels; ++panel) {
    file.read_exact_at(tensor.offset_bytes + panel * codes.size(), codes);
    file.read_exact_at(tensor.offset_bytes + layout.exponents_offset_bytes + panel * exponents.size(),
                       exponents);
    const std::uint64_t count = std::min(kPanelRows, layout.rows - panel * kPanelRows);
    rows.resize(count * mx_row_bytes(layout.cols));
    mx_rows_of_panel(layout, codes, exponents, count, rows);
    hasher.update(rows);
  }
  return base::merkle_root(hasher.final());
}

}  // namespace sluice::format
