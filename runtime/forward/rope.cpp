#include "runtime/forward/rope.h"

#include "runtime/kernels/fixed_math.h"

namespace sluice::runtime {

Rope::Rope(std::uint64_t head_dim, double theta) {
  // theta^(-2i / head_dim) by our own functions: pow() of the C library differs between machines in the last
  // bit.
  const double log_theta = logarithm(theta);
  for (std::uint64_t i = 0; i < head_dim; i += 2) {
    const double power = static_cast<double>(i) / static_cast<double>(head_dim);
    frequencies_.push_back(static_cast<float>(exponential(-power * log_theta)));
  }
}

void Rope::angles(std::uint64_t position, float* cosines, float* sines) const {
  for (std::size_t i = 0; i < frequencies_.size(); ++i) {
    // The product is rounded to f32 first, as in the implementation that the models were trained with.
    const float angle = static_cast<float>(position) * frequencies_[i];
    double sine = 0;
    double cosine = 0;
    sine_cosine(static_cast<double>(angle), sine, cosine);
    cosines[i] = static_cast<float>(cosine);
    sines[i] = static_cast<float>(sine);
  }
}

// The interleaved form, in which the two values of a pair are neighbours. Models with the half-split form,
// which pairs x[i] with x[i + head_dim / 2], are refused (supported_model.cpp).
void Rope::rotate(const float* cosines, const float* sines, std::size_t head_dim, float* x) {
  for (std::size_t i = 0; i < head_dim / 2; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cosines[i] - b * sines[i];
    x[2 * i + 1] = a * sines[i] + b * cosines[i];
  }
}

}  // namespace sluice::runtime
