#pragma once
// Own elementary functions. Those of the C library choose a variant by CPU and differ in the last bit, and
// one bit is enough to change a token.

namespace sluice::runtime {

/// sin and cos of x to about 1e-15 for |x| < 2^21, which is beyond the longest context; the same bits on
/// every machine. Up to 2^30 the error grows to about 1e-7.
void sine_cosine(double x, double& sine, double& cosine);

/// e^x and ln x to about 1e-15; the same bits on every machine.
[[nodiscard]] double exponential(double x);
[[nodiscard]] double logarithm(double x);

}  // namespace sluice::runtime
