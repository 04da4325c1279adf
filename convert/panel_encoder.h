#pragma once
// Encodes panels of 64 rows into the bytes of a container's tiles (format/tile.h).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "convert/gptq.h"
#include "convert/quantize.h"
#include "format/tile.h"

namespace sluice::convert {

/// One panel's share of each plane of its matrix.
struct EncodedPanel {
  std::vector<std::byte> codes;
  std::vector<std::byte> magnitudes;
  std::vector<std::byte> signs;
  std::vector<std::byte> row_scales;
  QuantError error;
};

/// `rows`: [row][cols] f32, at most 64 rows; missing ones are zero. Reuses the memory of `panel`.
/// With a compensation q4 rows are rounded for it.
void encode_panel(const format::TileLayout& layout, std::span<const float> rows, EncodedPanel& panel,
                  const Compensation* compensation = nullptr);

}  // namespace sluice::convert
