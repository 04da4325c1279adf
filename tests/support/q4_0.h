#pragma once
// llama.cpp's Q4_0, written from its description without Sluice's code, to compare q4 with: blocks of 32
// weights, scale = the weight of largest magnitude / -8 as an f16, code = weight / scale (before it is
// rounded to f16) + 8 rounded into [0, 15], value = (code - 8) * scale.

#include <algorithm>
#include <cmath>
#include <span>

namespace sluice::tests {

/// Rounds to the nearest f16, ties to even, without infinity. f16 has 11 bits from 2^-14 on, and steps of
/// 2^-24 below.
inline double round_to_f16(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  const double step = std::ldexp(1.0, std::max(exponent - 11, -24));
  return std::nearbyint(value / step) * step;
}

/// Squared error of a row, whose length is a multiple of 32.
inline double q4_0_squared_error(std::span<const float> row) {
  double error = 0;
  for (std::size_t block = 0; block < row.size(); block += 32) {
    const auto weights = row.subspan(block, 32);
    const float extreme =
        *std::ranges::max_element(weights, {}, [](float weight) { return std::fabs(weight); });
    const float scale = extreme / -8;
    const double stored = round_to_f16(static_cast<double>(scale));
    for (const float weight : weights) {
      const int code = scale == 0 ? 8 : std::min(15, static_cast<int>(weight / scale + 8.5f));
      const double difference = static_cast<double>(weight) - stored * (code - 8);
      error += difference * difference;
    }
  }
  return error;
}

}  // namespace sluice::tests
