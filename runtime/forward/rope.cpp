#include "runtime/forward/rope.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <variant>

#include "base/error.h"
#include "runtime/kernels/fixed_math.h"

namespace sluice::runtime {
namespace {

constexpr double kTwoPi = 6.28318530717958647693;

/// base^(-2 pair / dims). pow() of the C library differs between machines in the last bit.
double plain_frequency(const format::Rope& rope, std::uint64_t pair) {
  const double power = static_cast<double>(2 * pair) / static_cast<double>(rope.rotary_dims);
  return exponential(-power * logarithm(rope.base));
}

double scaled(const format::NoRopeScaling&, const format::Rope&, std::uint64_t, double frequency) {
  return frequency;
}

double scaled(const format::LinearScaling& scaling, const format::Rope&, std::uint64_t, double frequency) {
  return frequency / scaling.factor;
}

// arXiv 2309.00071 section 3.2. The ramp runs over pairs: `pair_of` is the pair that makes so many rotations
// within the original context, as a real number.
double scaled(const format::YarnScaling& scaling, const format::Rope& rope, std::uint64_t pair,
              double frequency) {
  const auto dims = static_cast<double>(rope.rotary_dims);
  const auto context = static_cast<double>(scaling.original_context_tokens);
  const auto pair_of = [&](double rotations) {
    return dims * logarithm(context / (rotations * kTwoPi)) / (2 * logarithm(rope.base));
  };
  double low = pair_of(scaling.beta_fast);
  double high = pair_of(scaling.beta_slow);
  if (scaling.round_ramp) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1);
  if (low == high) high += 0.001;  // as the released implementations do, against a division by zero
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  return (1 - ramp) * frequency + ramp * frequency / scaling.factor;
}

// Llama 3.1: pairs with long waves rotate slower by the factor, those with short waves as before.
double scaled(const format::Llama3Scaling& scaling, const format::Rope&, std::uint64_t, double frequency) {
  const double rotations = static_cast<double>(scaling.original_context_tokens) * frequency / kTwoPi;
  if (rotations < scaling.low_frequency_factor) return frequency / scaling.factor;
  if (rotations > scaling.high_frequency_factor) return frequency;
  const double smooth = (rotations - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

// A pair with frequency 0 has cosine 1 and sine 0, so it stays as it is.
double scaled(const format::ProportionalScaling& scaling, const format::Rope&, std::uint64_t pair,
              double frequency) {
  return 2 * pair < scaling.turned_dims ? frequency : 0;
}

double factor_of(const format::RopeScaling& scaling) {
  const auto* yarn = std::get_if<format::YarnScaling>(&scaling);
  return yarn != nullptr ? yarn->cos_sin_factor : 1;
}

}  // namespace

float query_temperature(const std::optional<format::QueryTemperature>& temperature, std::uint64_t position) {
  if (!temperature) return 1;
  const std::uint64_t contexts = position / temperature->original_context_tokens;
  return static_cast<float>(1 + temperature->beta * logarithm(static_cast<double>(1 + contexts)));
}

Rope::Rope(const format::Rope& description)
    : style_(description.style), factor_(factor_of(description.scaling)) {
  for (std::uint64_t pair = 0; pair < description.rotary_dims / 2; ++pair) {
    const double plain = plain_frequency(description, pair);
    const double frequency = std::visit(
        [&](const auto& scaling) { return scaled(scaling, description, pair, plain); }, description.scaling);
    // Constants of a stranger's file may divide zero by zero, as Llama's rule does with two equal factors.
    if (!std::isfinite(frequency)) {
      base::throw_malformed("RoPE", "the frequency of pair " + std::to_string(pair) +
                                        " is not finite: the constants of its scaling contradict each other");
    }
    frequencies_.push_back(static_cast<float>(frequency));
  }
}

void Rope::angles(std::uint64_t position, float* cosines, float* sines) const {
  for (std::size_t i = 0; i < frequencies_.size(); ++i) {
    // The product is rounded to f32 first, as in the implementations that the models were trained with.
    const float angle = static_cast<float>(position) * frequencies_[i];
    double sine = 0;
    double cosine = 0;
    sine_cosine(static_cast<double>(angle), sine, cosine);
    cosines[i] = static_cast<float>(cosine * factor_);
    sines[i] = static_cast<float>(sine * factor_);
  }
}

void Rope::rotate(const float* cosines, const float* sines, float* head) const {
  const std::size_t pairs = frequencies_.size();
  // Released matrices are never permuted: the style says which two values make a pair.
  const bool neighbours = style_ == format::RopeStyle::interleaved;
  const std::size_t step = neighbours ? 2 : 1;
  const std::size_t second = neighbours ? 1 : pairs;
  for (std::size_t i = 0; i < pairs; ++i) {
    float* const pair = head + i * step;
    const float a = pair[0];
    const float b = pair[second];
    pair[0] = a * cosines[i] - b * sines[i];
    pair[second] = a * sines[i] + b * cosines[i];
  }
}

}  // namespace sluice::runtime
