#include "convert/quantize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

using namespace sluice::convert;

namespace {

/// llama.cpp's Q4_0 from its description, in plain code: blocks of 32, scale = extreme / -8 as f16, codes
/// rounded into [0, 15]. Returns the squared error. (The scale is kept in f32 here, which flatters Q4_0
/// slightly.)
double q4_0_error(const std::vector<float>& row) {
  double error = 0;
  for (std::size_t b = 0; b < row.size(); b += 32) {
    float extreme = 0;
    for (std::size_t i = b; i < b + 32; ++i)
      if (std::fabs(row[i]) > std::fabs(extreme)) extreme = row[i];
    const float scale = extreme / -8;
    for (std::size_t i = b; i < b + 32; ++i) {
      const int code = scale == 0 ? 8 : std::min(15, static_cast<int>(row[i] / scale + 8.5f));
      const double difference = static_cast<double>(row[i]) - static_cast<double>(scale) * (code - 8);
      error += difference * difference;
    }
  }
  return error;
}

double q4_error(const std::vector<float>& row) {
  Q4Row q;
  quantize_row_q4(row, q);
  double error = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    REQUIRE(q.codes[i] >= -8);
    REQUIRE(q.codes[i] <= 7);
    const int sub_scale = q.sub_scales[i / 16];
    REQUIRE(std::abs(sub_scale) >= 1);
    REQUIRE(std::abs(sub_scale) <= 16);
    const int integer = q.codes[i] * sub_scale;
    REQUIRE(integer >= -128);
    REQUIRE(integer <= 127);
    const double difference = static_cast<double>(row[i]) - static_cast<double>(q.scale) * integer;
    error += difference * difference;
  }
  return error;
}

template <typename Distribution>
void compare_with_q4_0(const std::string& name, Distribution distribution, double bound) {
  std::mt19937_64 random(3);
  double squares = 0;
  double ours = 0;
  double theirs = 0;
  for (int r = 0; r < 40; ++r) {
    std::vector<float> row(4096);
    for (float& w : row) {
      w = static_cast<float>(distribution(random)) * 0.02f;
      squares += static_cast<double>(w) * static_cast<double>(w);
    }
    ours += q4_error(row);
    theirs += q4_0_error(row);
  }
  const double relative = std::sqrt(ours / squares);
  MESSAGE(name << ": relative RMS error " << relative << ", Q4_0 " << std::sqrt(theirs / squares));
  CHECK(relative < bound);
  CHECK(ours < theirs);
}

}  // namespace

TEST_CASE("q4 is better than Q4_0 on Gaussian and heavy-tailed rows") {
  // Bounds: the table of the design for group 16, found by search over scale and sign.
  compare_with_q4_0("Gaussian", std::normal_distribution<double>(), 0.0745);
  compare_with_q4_0("Student t, 5 degrees", std::student_t_distribution<double>(5), 0.093);
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
  // The outlier costs its own group, and the others at most about half a step of a sub-scale.
  CHECK(q4_error(row) < 4 * without + 16 * 0.34);
}
