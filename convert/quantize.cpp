#include "convert/quantize.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/invariant.h"
#include "convert/kernels/kernels.h"
#include "format/tile.h"

namespace sluice::convert {

float quantize_row_q8(std::span<const float> row, std::span<std::int8_t> codes) {
  INVARIANT(codes.size() == row.size());
  RowError error;
  return kernels().quantize_q8(row.data(), row.size(), codes.data(), error);
}

void quantize_row_q4(std::span<const float> row, Q4Row& result) {
  INVARIANT(row.size() % format::kGroupCols == 0);
  const std::size_t blocks = base::divide_up(row.size(), kBlockCols);
  std::vector<float> padded(row.begin(), row.end());
  padded.resize(blocks * kBlockCols);
  std::vector<std::uint32_t> words(blocks * kBlockCols / 8);
  result.sub_scales.resize(blocks * kBlockGroups);
  RowError error;
  result.scale = kernels().quantize_q4(padded.data(), blocks, words.data(), result.sub_scales.data(), error);
  result.sub_scales.resize(row.size() / format::kGroupCols);
  result.codes.resize(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::uint32_t nibble =
        words[i / 8] >> (i % 4 * 8 + (format::TileLayout::in_high_nibble(i) ? 4 : 0));
    result.codes[i] = static_cast<std::int8_t>(static_cast<int>(nibble & 15) - 8);
  }
}

}  // namespace sluice::convert
