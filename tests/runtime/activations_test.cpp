// Activations and the soft cap of every instruction set against the definitions in double.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "base/error.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/kernels/isa.h"

using namespace sluice;
using runtime::ActivationKind;
using runtime::GatedActivation;
using runtime::Kernels;

namespace {

void for_each_isa(const std::function<void(const Kernels&)>& body) {
  for (const runtime::Isa isa : runtime::kIsas) {
    if (!runtime::is_supported(isa)) continue;
    const Kernels& kernels = runtime::kernels_for(isa);
    CAPTURE(std::string(kernels.name));
    body(kernels);
  }
}

float activate(const Kernels& kernels, const GatedActivation& activation, float gate, float up) {
  alignas(64) std::array<float, runtime::kLanes> gates{gate};
  alignas(64) std::array<float, runtime::kLanes> ups{up};
  kernels.activate(activation, gates.data(), ups.data(), runtime::kLanes, gates.data());
  for (std::size_t i = 1; i < runtime::kLanes; ++i) CHECK(gates[i] == 0);  // padding stays zero
  return gates[0];
}

float soft_cap(const Kernels& kernels, float cap, float x) {
  alignas(64) std::array<float, runtime::kLanes> values{x};
  kernels.soft_cap(cap, runtime::kLanes, values.data());
  for (std::size_t i = 1; i < runtime::kLanes; ++i) CHECK(values[i] == 0);
  return values[0];
}

double gelu_tanh(double x) {
  return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

}  // namespace

TEST_CASE("clamped SwiGLU limits the gate from above only, and the other value on both sides") {
  const GatedActivation activation = runtime::gated_activation(format::ClampedSwiglu{1.702, 7});
  for_each_isa([&](const Kernels& kernels) {
    const auto found = [&](float gate, float up) {
      return doctest::Approx(static_cast<double>(activate(kernels, activation, gate, up))).epsilon(1e-6);
    };
    CHECK(1.691592 == found(1, 1));
    CHECK(-0.0542137 == found(-3, 2));
    CHECK(55.999625 == found(9, 9));
    CHECK(-2.102331 == found(0.5f, -9));
    // Limited from below as well, the gate would be -7 here and the result -7.5e-5.
    CHECK(std::fabs(activate(kernels, activation, -20, 9)) < 1e-12f);
    CHECK(std::isnan(activate(kernels, activation, NAN, 1)));
    CHECK(std::isnan(activate(kernels, activation, 1, NAN)));
  });
}

TEST_CASE("GELU is its tanh approximation, to a few units in the last place") {
  const GatedActivation activation = runtime::gated_activation(format::GeluTanh{});
  for_each_isa([&](const Kernels& kernels) {
    double worst = 0;
    for (float x = -12; x < 12; x += 0.0137f) {
      const double expected = gelu_tanh(static_cast<double>(x)) * 1.5;
      const double error = std::fabs(static_cast<double>(activate(kernels, activation, x, 1.5f)) - expected);
      worst = std::max(worst, error / std::max(std::fabs(expected), 0.01));
    }
    CHECK(worst < 1e-6);
    CHECK(activate(kernels, activation, 1e20f, 1) == 1e20f);
    CHECK(std::fabs(activate(kernels, activation, -1e20f, 1)) < 1e-17f);
    CHECK(std::isnan(activate(kernels, activation, NAN, 1)));
  });
}

TEST_CASE("a soft cap is tanh scaled to the cap, exact for small values, and keeps NaN") {
  for_each_isa([&](const Kernels& kernels) {
    double worst = 0;
    for (float x = -300; x < 300; x += 0.137f) {
      const double expected = 30 * std::tanh(static_cast<double>(x) / 30);
      const double found = static_cast<double>(soft_cap(kernels, 30, x));
      worst = std::max(worst, std::fabs(found - expected) / std::fabs(expected));
    }
    CHECK(worst < 5e-7);
    for (const float x : {1e-3f, -2e-6f, 1e-20f}) CHECK(soft_cap(kernels, 30, x) == doctest::Approx(x));
    CHECK(soft_cap(kernels, 30, 1e30f) == 30);
    CHECK(soft_cap(kernels, 30, -std::numeric_limits<float>::infinity()) == -30);
    CHECK(std::isnan(soft_cap(kernels, 30, NAN)));
  });
}
