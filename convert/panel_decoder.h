#pragma once
// Decodes panels of 64 rows of a container's tiles (format/tile.h) into floats: the reverse of
// panel_encoder.h, and the fast twin of format::weight_at.

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "format/tile.h"

namespace sluice::convert {

/// One panel's share of each plane of its matrix; empty where the type has no such plane.
struct StoredPanel {
  base::Bytes codes;
  base::Bytes magnitudes;
  base::Bytes signs;
  base::Bytes row_scales;
};

/// Writes the first `rows` rows of the panel, layout.cols floats each, without the padding. Thread-safe.
void decode_panel(const format::TileLayout& layout, const StoredPanel& panel, std::uint64_t rows,
                  std::span<float> out);

}  // namespace sluice::convert
