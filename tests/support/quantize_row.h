#pragma once
// One row through the quantization kernels that conversions use, with its codes unpacked.

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "convert/gptq.h"
#include "convert/kernels/kernels.h"
#include "format/tile.h"

namespace sluice::tests {

/// Returns the scale; 0 for a row of zeros.
inline float quantize_row_q8(std::span<const float> row, std::span<std::int8_t> codes) {
  convert::RowError error;
  return convert::kernels().quantize_q8(row.data(), row.size(), codes.data(), error);
}

/// row.size() is a multiple of 16.
inline void quantize_row_q4(std::span<const float> row, convert::Q4Row& result) {
  const std::size_t blocks = base::divide_up(row.size(), convert::kBlockCols);
  std::vector<float> padded(row.begin(), row.end());
  padded.resize(blocks * convert::kBlockCols);
  std::vector<std::uint32_t> words(blocks * convert::kBlockCols / 8);
  result.sub_scales.resize(blocks * convert::kBlockGroups);
  convert::RowError error;
  result.scale =
      convert::kernels().quantize_q4(padded.data(), blocks, words.data(), result.sub_scales.data(), error);
  result.sub_scales.resize(row.size() / format::kGroupCols);
  result.codes.resize(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::uint32_t nibble =
        words[i / 8] >> (i % 4 * 8 + (format::TileLayout::in_high_nibble(i) ? 4 : 0));
    result.codes[i] = static_cast<std::int8_t>(static_cast<int>(nibble & 15) - 8);
  }
}

}  // namespace sluice::tests
