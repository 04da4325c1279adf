#pragma once
// What quantization costs: the sums from which every reported error is computed.

namespace sluice::convert {

/// Sums over weights: |decoded - released|^2 and |released|^2. The relative RMS error is
/// sqrt(squared_error / squared_weights).
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

}  // namespace sluice::convert
