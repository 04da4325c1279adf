#include "convert/gptq.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "convert/calibration.h"
#include "tests/support/quantize_row.h"

using namespace sluice;
using namespace sluice::convert;

namespace {

/// Moments of correlated inputs, which share a common part as real ones do.
format::InputMoments correlated(std::size_t inputs, std::mt19937& random) {
  std::normal_distribution<float> normal;
  format::InputMoments moments(inputs);
  std::vector<float> x(inputs);
  for (int token = 0; token < 600; ++token) {
    const float common = normal(random);
    for (float& value : x) value = common + 0.5f * normal(random);
    for (std::size_t b = 0; b < moments.blocks(); ++b) {
      const std::size_t width = moments.block_width(b);
      for (std::size_t i = 0; i < width; ++i)
        for (std::size_t j = 0; j < width; ++j)
          moments.block(b)[i * width + j] +=
              x[b * format::kMomentBlock + i] * x[b * format::kMomentBlock + j];
    }
  }
  return moments;
}

/// The output error d H d', by its definition.
double output_error(const std::vector<float>& row, const Q4Row& q, const format::InputMoments& moments) {
  std::vector<double> d(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    const int integer = q.codes[i] * q.sub_scales[i / 16];
    REQUIRE(integer >= -128);
    REQUIRE(integer <= 127);
    d[i] = static_cast<double>(row[i]) - static_cast<double>(q.scale) * integer;
  }
  double error = 0;
  for (std::size_t b = 0; b < moments.blocks(); ++b) {
    const std::size_t width = moments.block_width(b);
    const std::size_t first = b * format::kMomentBlock;
    for (std::size_t i = 0; i < width; ++i)
      for (std::size_t j = 0; j < width; ++j)
        error += d[first + i] * d[first + j] * static_cast<double>(moments.block(b)[i * width + j]);
  }
  return error;
}

}  // namespace

TEST_CASE("compensated rows give less than half the output error of rows rounded alone") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto moments = correlated(320, random);  // two whole blocks and half of one
  const GptqFactors factors(moments);
  double alone = 0;
  double compensated = 0;
  for (int r = 0; r < 20; ++r) {
    std::vector<float> row(320);
    for (float& w : row) w = 0.02f * normal(random);
    Q4Row q;
    tests::quantize_row_q4(row, q);
    alone += output_error(row, q, moments);
    quantize_row_q4(row, factors, q);
    compensated += output_error(row, q, moments);
  }
  MESSAGE("output error: compensated " << compensated << ", alone " << alone);
  CHECK(compensated < alone / 2);
}

TEST_CASE("rows of zeros and inputs that were never seen are rounded all the same") {
  const GptqFactors nothing{format::InputMoments(64)};
  Q4Row q;
  quantize_row_q4(std::vector<float>(64), nothing, q);
  CHECK(q.scale == 0);
  std::vector<float> row(64, -3.5f);
  quantize_row_q4(row, nothing, q);
  for (std::size_t i = 0; i < row.size(); ++i)
    CHECK(static_cast<double>(q.scale) * (q.codes[i] * q.sub_scales[i / 16]) ==
          doctest::Approx(-3.5).epsilon(1e-5));
}

TEST_CASE("an under-calibrated expert is filled up with its layer's mean, others stay as they are") {
  format::LayerStatistics layer;
  layer.experts.resize(2);
  for (auto& expert : layer.experts) expert = {0, format::InputMoments(64), format::InputMoments(64)};
  layer.experts[0].tokens = 2 * kExpertTokensMin;
  layer.experts[0].up.sums[0] = 100;
  CHECK(fill_under_calibrated(layer) == std::vector<std::uint64_t>{1});
  CHECK(layer.experts[0].up.sums[0] == 100);
  CHECK(layer.experts[1].up.sums[0] == 50);
  CHECK(layer.experts[1].down.sums[0] == 0);
}
