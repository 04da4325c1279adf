// RoPE as a table: frequencies of every rule of scaling, the two styles of pairs, and heads that rotate in
// part.

#include "runtime/forward/rope.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/support/check_error.h"

using namespace sluice;
using format::RopeStyle;
using runtime::Rope;

namespace {

std::vector<float> frequencies(std::uint64_t dims, double base, format::RopeScaling scaling) {
  const Rope rope({RopeStyle::half_split, dims, base, scaling});
  return {rope.frequencies().begin(), rope.frequencies().end()};
}

std::vector<float> rotated(const format::Rope& description, std::uint64_t position, std::vector<float> head) {
  const Rope rope(description);
  std::vector<float> cosines(rope.pairs()), sines(rope.pairs());
  rope.angles(position, cosines.data(), sines.data());
  rope.rotate(cosines.data(), sines.data(), head.data());
  return head;
}

doctest::Approx close(double value) { return doctest::Approx(value).epsilon(1e-6); }

}  // namespace

TEST_CASE("YaRN has the frequencies of gpt-oss, DeepSeek-V3 and Kimi K2") {
  // Computed from the formulas of arXiv 2309.00071 with the constants of the released configurations.
  const auto oss = frequencies(64, 150000, format::YarnScaling{32, 4096, 32, 1, false, 1.346574});
  CHECK(oss[0] == 1);
  CHECK(oss[8] == close(5.08132748e-2));
  CHECK(oss[9] == close(3.17056962e-2));
  CHECK(oss[12] == close(6.79495949e-3));
  CHECK(oss[17] == close(1.29318701e-4));
  CHECK(oss[18] == close(3.83088124e-5));
  CHECK(oss[31] == close(3.02351143e-7));
  const auto deepseek = frequencies(64, 1e4, format::YarnScaling{40, 4096, 32, 1, true, 1});
  CHECK(deepseek[10] == close(5.62341325e-2));
  CHECK(deepseek[11] == close(3.90069266e-2));
  CHECK(deepseek[15] == close(8.33450895e-3));
  CHECK(deepseek[22] == close(1.77827941e-4));
  CHECK(deepseek[23] == close(3.33380358e-5));
  // Both ends of the ramp at one pair.
  const auto kimi = frequencies(64, 5e4, format::YarnScaling{32, 4096, 1, 1, true, 1});
  CHECK(kimi[19] == close(1.62175991e-3));
  CHECK(kimi[20] == close(3.61404677e-5));
}

TEST_CASE("the other rules stretch waves as they say") {
  const auto plain = frequencies(64, 5e5, format::NoRopeScaling{});
  const auto linear = frequencies(64, 5e5, format::LinearScaling{4});
  const auto proportional = frequencies(64, 5e5, format::ProportionalScaling{16});
  const auto llama = frequencies(64, 5e5, format::Llama3Scaling{8, 8192, 1, 4});
  for (std::size_t i = 0; i < 32; ++i) {
    CHECK(plain[i] == close(std::pow(5e5, -static_cast<double>(i) / 32)));
    CHECK(linear[i] == close(static_cast<double>(plain[i]) / 4));
    CHECK(proportional[i] == (i < 8 ? plain[i] : 0));
    const double f = static_cast<double>(plain[i]);
    const double wave = 2 * M_PI / f;
    const double smooth = (8192 / wave - 1) / 3;
    const double expected = wave > 8192 ? f / 8 : wave < 2048 ? f : (1 - smooth) * f / 8 + smooth * f;
    CHECK(llama[i] == close(expected));
  }
}

TEST_CASE("rotation turns interleaved pairs by position times base^(-2i/d)") {
  const auto x = rotated({RopeStyle::interleaved, 4, 1e4, {}}, 3, {1, 0, 0, 1});
  CHECK(x[0] == close(std::cos(3.0)));
  CHECK(x[1] == close(std::sin(3.0)));
  CHECK(x[2] == close(-std::sin(0.03)));
  CHECK(x[3] == close(std::cos(0.03)));
}

TEST_CASE("half-split pairs are halves of the rotary dims, and the rest of the head stays") {
  const auto x = rotated({RopeStyle::half_split, 4, 1e4, {}}, 3, {1, 0, 0, 1, 7, 8});
  CHECK(x[0] == close(std::cos(3.0)));
  CHECK(x[2] == close(std::sin(3.0)));
  CHECK(x[1] == close(-std::sin(0.03)));
  CHECK(x[3] == close(std::cos(0.03)));
  CHECK(x[4] == 7);
  CHECK(x[5] == 8);
}

TEST_CASE("YaRN multiplies cosines and sines by its factor") {
  const auto x = rotated({RopeStyle::half_split, 2, 1e4, format::YarnScaling{32, 4096, 32, 1, false, 1.5}}, 0,
                         {2, 4, 6});
  CHECK(x == std::vector<float>{3, 6, 6});
}

TEST_CASE("constants that contradict each other are refused") {
  CHECK_ERROR(frequencies(4, 1, format::YarnScaling{2, 4096, 32, 1, false, 1}), base::ErrorKind::malformed,
              "RoPE: the frequency of pair 0 is not finite");
}
