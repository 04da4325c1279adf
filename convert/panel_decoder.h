#pragma once
// Decodes panels of 64 rows of a container's tiles (format/tile.h) into floats: the reverse of
// panel_encoder.h. format::weight_at is its reference implementation.

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "format/tile.h"

namespace sluice::convert {

/// The part of each plane of a matrix that belongs to one panel; empty when the type has no such plane.
struct StoredPanel {
  base::Bytes codes;
  base::Bytes exponents;
  base::Bytes magnitudes;
  base::Bytes signs;
  base::Bytes row_scales;
};

/// Writes the first `rows` rows of the panel into `out` [rows][layout.cols], without the padding.
/// Thread-safe.
void decode_panel(const format::TileLayout& layout, const StoredPanel& panel, std::uint64_t rows,
                  std::span<float> out);

}  // namespace sluice::convert
