// How much q4 and q8 rows lose, and that their codes keep within their types.

#include "tests/support/quantize_row.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/support/q4_0.h"

using sluice::convert::Q4Row;
using sluice::tests::quantize_row_q4;
using sluice::tests::quantize_row_q8;

namespace {

double q4_error(const std::vector<float>& row) {
  Q4Row q;
  quantize_row_q4(row, q);
  double error = 0;
  bool in_range = true;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const int sub_scale = q.sub_scales[i / 16];
    const int integer = q.codes[i] * sub_scale;
    in_range &= q.codes[i] >= -8 && q.codes[i] <= 7;
    in_range &= std::abs(sub_scale) >= 1 && std::abs(sub_scale) <= 16;
    in_range &= integer >= -128 && integer <= 127;
    const double difference = static_cast<double>(row[i]) - static_cast<double>(q.scale) * integer;
    error += difference * difference;
  }
  REQUIRE(in_range);
  return error;
}

struct RelativeErrors {
  double q4;
  double q4_0;
};

/// Errors of rows with `inputs` weights. A few rows are enough, because rows are rounded one by one.
template <typename Distribution>
RelativeErrors measure(const std::string& name, std::size_t inputs, Distribution distribution) {
  constexpr int kRows = 40;
  std::mt19937_64 random(3);
  double squares = 0;
  double ours = 0;
  double theirs = 0;
  std::vector<float> row(inputs);
  for (int r = 0; r < kRows; ++r) {
    for (float& w : row) {
      w = static_cast<float>(distribution(random)) * 0.02f;
      squares += static_cast<double>(w) * static_cast<double>(w);
    }
    ours += q4_error(row);
    theirs += sluice::tests::q4_0_squared_error(row);
  }
  const RelativeErrors errors{std::sqrt(ours / squares), std::sqrt(theirs / squares)};
  MESSAGE(name << ", rows of " << inputs << ": relative RMS error " << errors.q4 << ", Q4_0 " << errors.q4_0);
  return errors;
}

}  // namespace

TEST_CASE("q4 is better than Q4_0 on Gaussian and heavy-tailed rows of Mixtral's lengths") {
  for (const std::size_t inputs : {4096u, 14336u}) {  // of w1 and w3, and of w2
    const auto gaussian = measure("Gaussian", inputs, std::normal_distribution<double>());
    const auto tailed = measure("Student t, 5 degrees", inputs, std::student_t_distribution<double>(5));
    CHECK(gaussian.q4 < gaussian.q4_0);
    CHECK(tailed.q4 < tailed.q4_0);
    if (inputs > 4096) continue;
    // The errors of a full search over sub-scale and sign with groups of 16.
    CHECK(gaussian.q4 < 0.0745);
    CHECK(tailed.q4 < 0.093);
  }
}

TEST_CASE("the reference rounds to f16 and to Q4_0 as by hand") {
  CHECK(sluice::tests::round_to_f16(0.1) == 0.0999755859375);  // 1638 / 2^14
  CHECK(sluice::tests::round_to_f16(-7e-8) == -std::ldexp(1.0, -24));
  std::vector<float> row(32, 0.0f);
  CHECK(sluice::tests::q4_0_squared_error(row) == 0);
  row[3] = -8;  // scale 1
  row[4] = 7;
  row[5] = 2.25f;
  row[6] = 7.75f;  // would be code 16
  CHECK(sluice::tests::q4_0_squared_error(row) == 0.0625 + 0.5625);
}

TEST_CASE("q8 is within half a step of every weight") {
  std::mt19937_64 random(1);
  std::vector<float> row(333);
  for (float& w : row) w = static_cast<float>(random() % 20001) * 1e-4f - 1.0f;
  std::vector<std::int8_t> codes(row.size());
  const float scale = quantize_row_q8(row, codes);
  for (std::size_t i = 0; i < row.size(); ++i)
    CHECK(std::fabs(row[i] - scale * static_cast<float>(codes[i])) <= scale * 0.5001f);
}

TEST_CASE("rows of zeros, of one value and of the smallest numbers are exact or zero, never NaN") {
  Q4Row q;
  quantize_row_q4(std::vector<float>(32), q);
  CHECK(q.scale == 0);
  for (const float value : {1.0f, -3.5f, 1e-20f, 1e30f}) {
    const std::vector<float> row(32, value);
    quantize_row_q4(row, q);
    for (std::size_t i = 0; i < row.size(); ++i)
      CHECK(q.scale * static_cast<float>(q.codes[i] * q.sub_scales[i / 16]) ==
            doctest::Approx(value).epsilon(1e-5));
  }
  quantize_row_q4(std::vector<float>(16, 1e-42f), q);
  CHECK(q.scale == 0);
  std::vector<std::int8_t> codes(4);
  CHECK(quantize_row_q8(std::vector<float>(4, 1e-42f), codes) == 0);
}

TEST_CASE("one large weight does not spoil its row's other groups") {
  std::vector<float> row(256);
  std::mt19937_64 random(1);
  for (float& w : row) w = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
  const double without = q4_error(row);
  row[5] = 8;
  // The outlier costs its own group, and every other group at most about half a step of a sub-scale.
  CHECK(q4_error(row) < 4 * without + 16 * 0.34);
}
