// Elementary functions in double, out of additions, multiplications and divisions alone. IEEE 754 defines the
// result of these, and the build forbids the compiler to contract them to fused multiply-adds
// (-ffp-contract=off in cmake/sluice.cmake), so the bits are the same everywhere. The split constants are
// those of fdlibm (e_rem_pio2.c, e_exp.c).

#include "runtime/kernels/fixed_math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

namespace sluice::runtime {
namespace {

// pi/2 in three parts (Cody and Waite). The first two end with 22 and 21 zero bits, so that n * part is exact
// for n < 2^21; the subtractions then lose nothing, although x and n * pi/2 are nearly equal.
constexpr double kHalfPi1 = 1.57079632673412561417e+00;
constexpr double kHalfPi2 = 6.07710050630396597660e-11;
constexpr double kHalfPi3 = 2.02226624879595063154e-21;
constexpr double kTwoOverPi = 0.63661977236758134308;

// ln 2 in two parts. The first ends with 21 zero bits, so that n * part is exact for every exponent n of a
// double.
constexpr double kLn2High = 6.93147180369123816490e-01;
constexpr double kLn2Low = 1.90821492927058770002e-10;

// Taylor series; on |r| <= pi/4 the first left-out term is below 1e-17.
double sine_series(double r) {
  const double s = r * r;
  double term = 1.0 / 355687428096000.0;  // 1/17!
  for (const double factorial : {-1307674368000.0, 6227020800.0, -39916800.0, 362880.0, -5040.0, 120.0, -6.0})
    term = 1.0 / factorial + s * term;
  return r + r * s * term;
}

double cosine_series(double r) {
  const double s = r * r;
  double term = 1.0 / 20922789888000.0;  // 1/16!
  for (const double factorial : {-87178291200.0, 479001600.0, -3628800.0, 40320.0, -720.0, 24.0, -2.0})
    term = 1.0 / factorial + s * term;
  return 1.0 + s * term;
}

}  // namespace

void sine_cosine(double x, double& sine, double& cosine) {
  const double n = std::nearbyint(x * kTwoOverPi);
  const double r = ((x - n * kHalfPi1) - n * kHalfPi2) - n * kHalfPi3;
  const double s = sine_series(r);
  const double c = cosine_series(r);
  // The quadrant. & 3 is also right for negative n, in two's complement.
  switch (static_cast<std::int64_t>(n) & 3) {
    case 0: sine = s, cosine = c; break;
    case 1: sine = c, cosine = -s; break;
    case 2: sine = -s, cosine = -c; break;
    default: sine = -c, cosine = s; break;
  }
}

double exponential(double x) {
  // Beyond these the exponent field below would overflow. Results below the smallest normal number become 0.
  if (x < -708) return 0;
  if (x > 709) return std::numeric_limits<double>::infinity();
  const double n = std::nearbyint(x / (kLn2High + kLn2Low));
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 1;
  for (int i = 18; i >= 1; --i) sum = 1 + r / i * sum;
  return sum * std::bit_cast<double>((static_cast<std::int64_t>(n) + 1023) << 52);
}

double logarithm(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // [0.5, 1)
  // m in [sqrt(1/2), sqrt(2)), where |ln m| is smallest and the series converges fastest.
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  // ln m = 2 artanh((m - 1) / (m + 1)); |z| < 0.172, and 21 odd terms reach 1e-17.
  const double z = (m - 1) / (m + 1);
  const double square = z * z;
  double sum = 0;
  for (int i = 41; i >= 1; i -= 2) sum = sum * square + 1.0 / i;
  return exponent * kLn2High + (2 * z * sum + exponent * kLn2Low);
}

}  // namespace sluice::runtime
