#include "convert/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/invariant.h"
#include "format/tile.h"

namespace sluice::convert {
namespace {

constexpr std::size_t kGroup = format::kGroupCols;
constexpr int kMagnitudeMax = 16;
constexpr int kCodeMin = -8;
constexpr int kCodeMax = 7;

// Four floats at a time; GCC and Clang lower them to the baseline's registers.
typedef float Float4 __attribute__((vector_size(16)));

// Adding and taking off 1.5 * 2^23 rounds to nearest, ties to even.
constexpr float kRoundMagic = 12582912.0f;

Float4 clamp(Float4 v, float low, float high) {
  const Float4 lows = {low, low, low, low};
  const Float4 highs = {high, high, high, high};
  v = v < lows ? lows : v;
  return v > highs ? highs : v;
}

/// Codes of one group under `scale`, and their squared error.
float code_group(const float* weights, float scale, int code_min, float* codes) {
  const float inverse = 1.0f / scale;
  Float4 error = {};
  for (std::size_t i = 0; i < kGroup; i += 4) {
    Float4 w;
    std::memcpy(&w, weights + i, sizeof(w));
    const Float4 rounded = (w * inverse + kRoundMagic) - kRoundMagic;
    const Float4 code = clamp(rounded, static_cast<float>(code_min), static_cast<float>(kCodeMax));
    const Float4 difference = w - code * scale;
    error += difference * difference;
    std::memcpy(codes + i, &code, sizeof(code));
  }
  return (error[0] + error[1]) + (error[2] + error[3]);
}

/// The largest weight by magnitude, with its sign.
float extreme(const float* weights) {
  float best = 0;
  for (std::size_t i = 0; i < kGroup; ++i)
    if (std::fabs(weights[i]) > std::fabs(best)) best = weights[i];
  return best;
}

struct GroupChoice {
  float error = std::numeric_limits<float>::infinity();
  int sub_scale = 1;
  std::array<float, kGroup> codes{};
};

/// The best sub-scale of a group under a row scale. With code -8 at the extreme weight the ideal sub-scale is
/// -extreme / 8 / row_scale; with code 7 it is extreme / 7 / row_scale. A little clipping often pays.
GroupChoice search_group(const float* weights, float row_scale) {
  const float most = extreme(weights);
  const float magnitude = std::fabs(most) / (8.0f * row_scale);
  const int sign = most > 0 ? -1 : 1;
  GroupChoice best;
  std::array<float, kGroup> codes;
  const auto consider = [&](int sub_scale) {
    const int size = std::abs(sub_scale);
    if (size < 1 || size > kMagnitudeMax) return;
    const int code_min = sub_scale == -kMagnitudeMax ? kCodeMin + 1 : kCodeMin;
    const float error =
        code_group(weights, row_scale * static_cast<float>(sub_scale), code_min, codes.data());
    if (error < best.error) {
      best.error = error;
      best.sub_scale = sub_scale;
      best.codes = codes;
    }
  };
  const int near = std::clamp(static_cast<int>(magnitude), 1, kMagnitudeMax);
  for (int size = near - 2; size <= near + 2; ++size) {
    consider(sign * size);
    consider(-sign * size);
  }
  return best;
}

/// Sub-scales and codes of all groups of a row under one row scale.
void choose_codes(std::span<const float> row, float row_scale, Q4Row& result) {
  for (std::size_t g = 0; g < row.size() / kGroup; ++g) {
    const GroupChoice choice = search_group(&row[g * kGroup], row_scale);
    result.sub_scales[g] = static_cast<std::int8_t>(choice.sub_scale);
    for (std::size_t i = 0; i < kGroup; ++i)
      result.codes[g * kGroup + i] = static_cast<std::int8_t>(choice.codes[i]);
  }
}

/// The scale that fits the chosen integers best: <w, q> / <q, q>.
float least_squares_scale(std::span<const float> row, const Q4Row& result) {
  double product = 0;
  double square = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double integer = result.codes[i] * result.sub_scales[i / kGroup];
    product += integer * static_cast<double>(row[i]);
    square += integer * integer;
  }
  return square > 0 ? static_cast<float>(product / square) : 0.0f;
}

double squared_error(std::span<const float> row, const Q4Row& result) {
  double error = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double value =
        static_cast<double>(result.scale) * (result.codes[i] * result.sub_scales[i / kGroup]);
    const double difference = static_cast<double>(row[i]) - value;
    error += difference * difference;
  }
  return error;
}

}  // namespace

float quantize_row_q8(std::span<const float> row, std::span<std::int8_t> codes) {
  float most = 0;
  for (const float w : row) most = std::max(most, std::fabs(w));
  const float scale = most / 127.0f;
  // A scale below the smallest normal float would lose digits; such rows are zero for all purposes.
  if (scale < std::numeric_limits<float>::min()) {
    std::ranges::fill(codes, std::int8_t{0});
    return 0;
  }
  for (std::size_t i = 0; i < row.size(); ++i) {
    const float rounded = (row[i] / scale + kRoundMagic) - kRoundMagic;
    codes[i] = static_cast<std::int8_t>(std::clamp(rounded, -127.0f, 127.0f));
  }
  return scale;
}

void quantize_row_q4(std::span<const float> row, Q4Row& result) {
  INVARIANT(row.size() % kGroup == 0);
  result.scale = 0;
  result.codes.assign(row.size(), 0);
  result.sub_scales.assign(row.size() / kGroup, 1);
  float most = 0;
  for (const float w : row) most = std::max(most, std::fabs(w));
  const float full = most / static_cast<float>(-kCodeMin * kMagnitudeMax);
  if (full < std::numeric_limits<float>::min()) return;

  // The search works on the row in units of its full scale, where no square can overflow.
  std::vector<float> unit(row.size());
  std::ranges::transform(row, unit.begin(), [full](float w) { return w / full; });

  // A smaller row scale clips the largest group and gives the others finer steps.
  Q4Row trial = result;
  double best = std::numeric_limits<double>::infinity();
  for (const float shrink : {1.0f, 0.92f, 0.84f}) {
    choose_codes(unit, shrink, trial);
    trial.scale = least_squares_scale(row, trial);
    const double error = squared_error(row, trial);
    if (error < best) {
      best = error;
      std::swap(result, trial);
    }
  }
}

}  // namespace sluice::convert
