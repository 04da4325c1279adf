#include <doctest/doctest.h>

#include <cmath>

#include "runtime/kernels/fixed_math.h"

using namespace sluice::runtime;

TEST_CASE("sine and cosine agree with the C library to 1e-15 times the angle's size") {
  for (double x = -7.0; x < 40000.0; x += x < 100 ? 0.0173 : 13.37) {
    double s = 0;
    double c = 0;
    sine_cosine(x, s, c);
    REQUIRE(std::fabs(s - std::sin(x)) < 4e-16);
    REQUIRE(std::fabs(c - std::cos(x)) < 4e-16);
  }
}

TEST_CASE("exponential and logarithm agree with the C library") {
  for (double x = -700; x < 700; x += 0.731) REQUIRE(std::fabs(exponential(x) / std::exp(x) - 1) < 1e-15);
  CHECK(exponential(-1000) == 0);
  for (double x = 1e-6; x < 1e9; x *= 1.07) REQUIRE(std::fabs(logarithm(x) - std::log(x)) < 4e-15);
}
