#pragma once
// From float rows to codes, one row at a time; conversions go through panel_encoder.h. The arithmetic is in
// convert/kernels, where it is the same on every machine, so that every machine makes the same bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::convert {

/// Sums that give a relative RMS error: sqrt(squared_error / squared_weights).
struct QuantError {
  double squared_error = 0;
  double squared_weights = 0;

  QuantError& operator+=(const QuantError& other) {
    squared_error += other.squared_error;
    squared_weights += other.squared_weights;
    return *this;
  }

  friend bool operator==(const QuantError&, const QuantError&) = default;
};

/// q8: code = round(weight / scale), scale = max |weight| / 127. Returns the scale; 0 for a row of zeros.
[[nodiscard]] float quantize_row_q8(std::span<const float> row, std::span<std::int8_t> codes);

/// A q4 row: value = code * sub_scale * scale (format/tile.h).
struct Q4Row {
  float scale = 0;
  std::vector<std::int8_t> codes;       ///< in [-8, 7], one a weight
  std::vector<std::int8_t> sub_scales;  ///< in +-[1, 16], one a group of 16
};

/// Chooses scale, sub-scales and codes with the least squared error that a search finds
/// (kernels/q4_search.h). row.size() is a multiple of 16 (filled up with zeros).
void quantize_row_q4(std::span<const float> row, Q4Row& result);

}  // namespace sluice::convert
