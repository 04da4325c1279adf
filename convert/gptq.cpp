// Rounds q4 rows by GPTQ (arXiv 2210.17323; the formulas are in gptq.h): for each block of 128 inputs it
// factorizes the inverse of the damped second moments once (GptqFactors), then rounds every row group after
// group with those factors.
//
// Each group tries 16 sub-scales at once, one a lane, and keeps the one whose weights, compensated within the
// group, leave the least error; then its errors are subtracted from the rest of the block. A row is tried
// with three row scales and keeps the one that fits best under H. Rows are independent, so any thread may
// round any row, and the result does not depend on which. The arithmetic uses only IEEE operations in a fixed
// order (-ffp-contract=off), because the container's bytes must be the same on every machine.

#include "convert/gptq.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/invariant.h"
#include "format/tile.h"

namespace sluice::convert {
namespace {

constexpr std::size_t kGroup = format::kGroupCols;
constexpr std::size_t kCandidates = 16;  ///< sub-scales that are tried for a group at once, one a lane
constexpr int kMagnitudeMax = 16;
constexpr float kCodeMin = -8;
constexpr float kCodeMax = 7;
// Relative to the mean diagonal of H, as in the paper. It bounds the factors where inputs hardly vary.
constexpr double kDamping = 0.01;

// Adding and subtracting 1.5 * 2^23 rounds to nearest, ties to even, in two additions that the compiler
// vectorizes.
constexpr float kRoundMagic = 12582912.0f;

using Lanes = std::array<float, kCandidates>;

/// Replaces H by V with H = V V', V upper triangular, from the last column to the first. This is Cholesky's
/// factorization with rows and columns in reverse, so that V^-1 is the upper triangular U of H^-1 = U' U
/// without H^-1 ever being computed. Only the upper triangle of `h` is read and written.
void factorize(std::vector<double>& h, std::size_t n) {
  for (std::size_t k = n; k-- > 0;) {
    const double pivot = std::sqrt(h[k * n + k]);
    for (std::size_t row = 0; row < k; ++row) h[row * n + k] /= pivot;
    h[k * n + k] = pivot;
    for (std::size_t row = 0; row < k; ++row)
      for (std::size_t col = row; col < k; ++col) h[row * n + col] -= h[row * n + k] * h[col * n + k];
  }
}

/// U = V^-1, upper triangular: U_ij = -(sum over i <= k < j of U_ik V_kj) / V_jj.
std::vector<double> invert_upper(const std::vector<double>& v, std::size_t n) {
  std::vector<double> u(n * n);
  for (std::size_t row = 0; row < n; ++row) {
    double* out = &u[row * n];
    out[row] = 1 / v[row * n + row];
    // `out` holds the sums so far; a column is final once all columns before it have been added.
    for (std::size_t k = row; k < n; ++k) {
      if (k > row) out[k] = -out[k] / v[k * n + k];
      for (std::size_t col = k + 1; col < n; ++col) out[col] += out[k] * v[k * n + col];
    }
  }
  return u;
}

/// In double: the factorization loses digits where inputs are nearly dependent.
GptqBlock make_block(std::span<const float> moments, std::size_t width) {
  double mean = 0;
  for (std::size_t i = 0; i < width; ++i) mean += static_cast<double>(moments[i * width + i]);
  mean /= static_cast<double>(width);
  std::vector<double> h(width * width);
  // When all inputs were zero, H is the identity: every weight counts the same.
  for (std::size_t i = 0; i < h.size(); ++i) h[i] = mean > 0 ? static_cast<double>(moments[i]) / mean : 0;
  for (std::size_t i = 0; i < width; ++i) h[i * width + i] += mean > 0 ? kDamping : 1;

  GptqBlock block{width, {}, {}, {h.begin(), h.end()}};
  factorize(h, width);
  const std::vector<double> u = invert_upper(h, width);
  block.factor.assign(u.begin(), u.end());
  for (std::size_t i = 0; i < width; ++i)
    block.inverse_pivot.push_back(static_cast<float>(1 / u[i * width + i]));
  return block;
}

/// The largest weight by magnitude, with its sign.
float extreme(const float* weights) {
  float best = 0;
  for (std::size_t i = 0; i < kGroup; ++i)
    if (std::fabs(weights[i]) > std::fabs(best)) best = weights[i];
  return best;
}

/// The sub-scales of both signs around the one that puts code -8 on the extreme weight. Codes reach -8 but
/// only +7, so the sign is chosen for which the extreme weight needs the negative end; the opposite sign is
/// tried as well. Smaller sub-scales clip the extreme weight and round all others more finely.
std::array<int, kCandidates> candidates(const float* weights, float row_scale) {
  const float most = extreme(weights);
  const int sign = most > 0 ? -1 : 1;
  const float ideal = std::fabs(most) / (-kCodeMin * row_scale);
  const int near = static_cast<int>(std::clamp(ideal, 1.0f, static_cast<float>(kMagnitudeMax)));
  const int first = std::clamp(near - 3, 1, kMagnitudeMax - static_cast<int>(kCandidates) / 2 + 1);
  std::array<int, kCandidates> result;
  for (std::size_t c = 0; c < kCandidates; ++c)
    result[c] = (c % 2 == 0 ? sign : -sign) * (first + static_cast<int>(c / 2));
  return result;
}

struct GroupResult {
  int sub_scale;
  std::array<float, kGroup> codes;
  std::array<float, kGroup> errors;  ///< e_i
};

/// Rounds a group under every candidate, compensating each weight's error by the weights after it, and
/// returns the best.
GroupResult round_group(const float* weights, float row_scale, const GptqBlock& block, std::size_t first) {
  const auto sub_scales = candidates(weights, row_scale);
  Lanes step;
  Lanes inverse_step;
  Lanes lowest;
  for (std::size_t c = 0; c < kCandidates; ++c) {
    step[c] = row_scale * static_cast<float>(sub_scales[c]);
    inverse_step[c] = 1.0f / step[c];
    // The pair (-8, -16) would be +128, which does not fit an int8 (format/tile.h).
    lowest[c] = sub_scales[c] == -kMagnitudeMax ? kCodeMin + 1 : kCodeMin;
  }
  std::array<Lanes, kGroup> w;
  std::array<Lanes, kGroup> codes;
  std::array<Lanes, kGroup> errors;
  Lanes loss{};
  for (std::size_t i = 0; i < kGroup; ++i) w[i].fill(weights[i]);
  for (std::size_t i = 0; i < kGroup; ++i) {
    const float inverse_pivot = block.inverse_pivot[first + i];
    for (std::size_t c = 0; c < kCandidates; ++c) {
      float code = w[i][c] * inverse_step[c];
      code = code < lowest[c] ? lowest[c] : code;
      code = code > kCodeMax ? kCodeMax : code;
      code = (code + kRoundMagic) - kRoundMagic;
      const float error = (w[i][c] - code * step[c]) * inverse_pivot;
      codes[i][c] = code;
      errors[i][c] = error;
      loss[c] += error * error;
    }
    const float* factor = &block.factor[(first + i) * block.width + first];
    for (std::size_t j = i + 1; j < kGroup; ++j)
      for (std::size_t c = 0; c < kCandidates; ++c) w[j][c] -= errors[i][c] * factor[j];
  }
  // The first of equal losses, so the choice is the same everywhere.
  const auto best = static_cast<std::size_t>(std::ranges::min_element(loss) - loss.begin());
  GroupResult result{sub_scales[best], {}, {}};
  for (std::size_t i = 0; i < kGroup; ++i) {
    result.codes[i] = codes[i][best];
    result.errors[i] = errors[i][best];
  }
  return result;
}

/// Rounds one block of a row. `weights` change, because they compensate the errors of those before them.
/// Errors reach the end of the block only: the moments have no products between blocks.
void round_block(std::span<float> weights, float row_scale, const GptqBlock& block, std::int8_t* codes,
                 std::int8_t* sub_scales) {
  for (std::size_t first = 0; first < block.width; first += kGroup) {
    const GroupResult group = round_group(&weights[first], row_scale, block, first);
    sub_scales[first / kGroup] = static_cast<std::int8_t>(group.sub_scale);
    for (std::size_t i = 0; i < kGroup; ++i) {
      codes[first + i] = static_cast<std::int8_t>(group.codes[i]);
      const float* factor = &block.factor[(first + i) * block.width];
      for (std::size_t j = first + kGroup; j < block.width; ++j) weights[j] -= group.errors[i] * factor[j];
    }
  }
}

/// The inner products <w, z> and <z, z> under H of a row w and its integers z = code * sub_scale: they give
/// the row scale that fits best and the error that it leaves.
struct Fit {
  double product = 0;
  double square = 0;

  [[nodiscard]] double scale() const { return square > 0 ? product / square : 0; }
  /// How much less error the best scale leaves than a row of zeros would.
  [[nodiscard]] double gain() const { return square > 0 ? product * product / square : 0; }
};

/// Rounding has used the trial's row scale; now that the integers are known, a better scale follows in closed
/// form: <w, z> / <z, z>.
Fit fit(std::span<const float> row, const GptqFactors& factors, const Q4Row& result) {
  Fit total;
  std::array<float, format::kMomentBlock> sums;
  std::size_t first = 0;
  for (const GptqBlock& block : factors.blocks()) {
    sums.fill(0);
    for (std::size_t i = 0; i < block.width; ++i) {
      const auto z = static_cast<float>(result.codes[first + i] * result.sub_scales[(first + i) / kGroup]);
      const float* moments = &block.moments[i * block.width];
      for (std::size_t j = 0; j < block.width; ++j) sums[j] += z * moments[j];
    }
    for (std::size_t j = 0; j < block.width; ++j) {
      const double z = result.codes[first + j] * result.sub_scales[(first + j) / kGroup];
      total.product += static_cast<double>(sums[j]) * static_cast<double>(row[first + j]);
      total.square += static_cast<double>(sums[j]) * z;
    }
    first += block.width;
  }
  return total;
}

}  // namespace

GptqFactors::GptqFactors(const format::InputMoments& moments) : inputs_(moments.inputs) {
  for (std::size_t i = 0; i < moments.blocks(); ++i)
    blocks_.push_back(make_block(moments.block(i), moments.block_width(i)));
}

void quantize_row_q4(std::span<const float> row, const GptqFactors& factors, Q4Row& result) {
  INVARIANT(row.size() == factors.inputs() && row.size() % kGroup == 0);
  result.scale = 0;
  result.codes.assign(row.size(), 0);
  result.sub_scales.assign(row.size() / kGroup, 1);
  float most = 0;
  for (const float w : row) most = std::max(most, std::fabs(w));
  const float full = most / (-kCodeMin * static_cast<float>(kMagnitudeMax));
  // A row of zeros, or one whose scale would be subnormal and lose digits.
  if (full < std::numeric_limits<float>::min()) return;

  // The search works on the row in units of its full scale, as the search without calibration does.
  std::vector<float> unit(row.size());
  std::ranges::transform(row, unit.begin(), [full](float w) { return w / full; });
  std::vector<float> left;  // the weights that are still to be rounded, with the errors that they compensate
  Q4Row trial = result;
  double best = 0;
  for (const float shrink : {1.0f, 0.92f, 0.84f}) {
    left = unit;
    std::size_t first = 0;
    for (const GptqBlock& block : factors.blocks()) {
      round_block(std::span(left).subspan(first, block.width), shrink, block, &trial.codes[first],
                  &trial.sub_scales[first / kGroup]);
      first += block.width;
    }
    const Fit fitted = fit(unit, factors, trial);
    // All trials have the same <w, w>, so the largest gain is the smallest error.
    if (fitted.gain() <= best) continue;
    best = fitted.gain();
    trial.scale = static_cast<float>(fitted.scale() * static_cast<double>(full));
    std::swap(result, trial);
  }
}

}  // namespace sluice::convert
