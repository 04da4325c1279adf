// Products with mx4 weights on every instruction set against their definition, bit for bit: exponents close
// together, which kernels for many rows fold into the codes, and far apart; blocks of zeros; the ends of the
// range of exponents.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/runtime/kernel_twins.h"

using namespace sluice;
using format::TileType;
using runtime::InputRows;
using runtime::Isa;
using tests::RandomMatrix;

namespace {

constexpr std::size_t kBlock = format::kMx4BlockCols;

/// Exponents uniform in [least, least + spread]. One block in `zero_every` consists of zeros of either sign,
/// with any exponent.
RandomMatrix with_spread(std::size_t rows, std::size_t cols, unsigned least, unsigned spread,
                         std::size_t zero_every, std::uint64_t seed) {
  RandomMatrix w(TileType::mx4, rows, cols, seed);
  std::mt19937_64 random(seed + 1);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; c += kBlock) {
      const bool zeros = random() % zero_every == 0;
      w.set_exponent(r, c, static_cast<unsigned>(zeros ? random() % 255 : least + random() % (spread + 1)));
      for (std::size_t i = c; zeros && i < std::min(c + kBlock, cols); ++i)
        w.set_mx4_code(r, i, random() % 2 == 0 ? 0 : 8);
    }
  }
  return w;
}

/// As same_bits, but every NaN is like every other.
bool same_values(const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(std::isnan(a[i]) && std::isnan(b[i])))
      return false;
  return a.size() == b.size();
}

void check_all(const RandomMatrix& w, std::size_t batch, std::size_t chunk, float scale, std::uint64_t seed) {
  runtime::InputRowsBuffer buffer;
  const auto& generic = runtime::kernels_for(Isa::generic);
  const InputRows x = buffer.reset(TileType::mx4, batch, w.layout.padded_cols, chunk);
  for (std::size_t r = 0; r < batch; ++r)
    x.fill(generic, r, 0, x.cols(), tests::random_floats(x.cols(), seed + r, scale).data());
  const auto expected = tests::slow_products(w, x.quantized());
  for (const runtime::Kernels* kernels : tests::all_kernels()) {
    CAPTURE(std::string(kernels->name));
    CAPTURE(batch);
    CAPTURE(chunk);
    REQUIRE(same_values(tests::fast_products(*kernels, w, x), expected));
  }
}

}  // namespace

TEST_CASE("mx4: products have the same bits for every spread of exponents and number of rows") {
  std::uint64_t seed = 1;
  for (const unsigned spread : {0u, 1u, 3u, 4u, 6u, 7u, 13u, 60u}) {
    CAPTURE(spread);
    const RandomMatrix w = with_spread(70, 320, 120 - spread / 2, spread, 5, ++seed);
    for (std::size_t batch = 1; batch <= 20; ++batch)
      check_all(w, batch, batch % 2 == 0 ? 128 : 32, 1.0f, ++seed);
    for (const std::size_t chunk : {64u, 96u}) check_all(w, 9, chunk, 1.0f, ++seed);
  }
}

TEST_CASE("mx4: a few outputs far apart do not change the others") {
  // Exponents of one output of each panel are apart, so that a kernel that folds must notice a single one.
  for (const unsigned apart : {3u, 4u, 6u, 7u}) {
    for (std::size_t output = 0; output < 64; output += 7) {
      RandomMatrix w = with_spread(64, 128, 118, 0, 1000, output);
      w.set_exponent(output, 32 * (output % 4), 118 + apart);
      check_all(w, 8, 128, 1.0f, output);
    }
  }
}

TEST_CASE("mx4: the largest sums keep their bits at every distance of exponents") {
  // All codes +-6 and all activations 127, three blocks of a chunk above the fourth.
  for (unsigned apart = 0; apart < 12; ++apart) {
    CAPTURE(apart);
    for (const int code : {7, 15}) {
      RandomMatrix w(TileType::mx4, 64, 128, 1);
      w.fill(code, false, static_cast<int>(120 + apart));
      for (std::size_t n = 0; n < 64; ++n) w.set_exponent(n, 32 * (n % 4), 120);
      for (const std::size_t batch : {3u, 10u}) {
        runtime::InputRowsBuffer buffer;
        const InputRows x = buffer.reset(TileType::mx4, batch, 128, 128);
        const std::vector<float> row(128, 1.0f);
        for (std::size_t r = 0; r < batch; ++r)
          x.fill(runtime::kernels_for(Isa::generic), r, 0, 128, row.data());
        const auto expected = tests::slow_products(w, x.quantized());
        for (const runtime::Kernels* kernels : tests::all_kernels()) {
          CAPTURE(std::string(kernels->name));
          REQUIRE(tests::same_bits(tests::fast_products(*kernels, w, x), expected));
        }
      }
    }
  }
}

TEST_CASE("mx4: exponents from 0 to 254, with results that are tiny, infinite or no numbers, as defined") {
  struct Case {
    unsigned least;
    unsigned spread;
    std::size_t chunk;
    float activations;
  };
  const Case cases[] = {{0, 254, 128, 1.0f}, {0, 2, 128, 1.0f},    {0, 2, 128, 1e30f},  {0, 2, 32, 1e-6f},
                        {228, 3, 128, 1.0f}, {252, 2, 128, 1e-3f}, {252, 2, 32, 1e-30f}};
  std::uint64_t seed = 50;
  for (const Case& c : cases) {
    CAPTURE(c.least);
    const RandomMatrix w = with_spread(64, 256, c.least, c.spread, 4, ++seed);
    for (const std::size_t batch : {1u, 3u, 8u}) check_all(w, batch, c.chunk, c.activations, ++seed);
  }
}

TEST_CASE("mx4: the least weights are not lost, and the largest are infinite only where they must be") {
  for (const runtime::Kernels* kernels : tests::all_kernels()) {
    CAPTURE(std::string(kernels->name));
    for (const std::size_t batch : {1u, 9u}) {
      runtime::InputRowsBuffer buffer;
      const InputRows x = buffer.reset(TileType::mx4, batch, 128, 128);
      std::vector<float> row(128);
      row[5] = 127.0f;  // the scale is 1
      for (std::size_t r = 0; r < batch; ++r) x.fill(*kernels, r, 0, 128, row.data());
      RandomMatrix w(TileType::mx4, 64, 128, 1);
      w.fill(0, false, 0);
      w.set_mx4_code(3, 5, 1);   // 0.5 x 2^-127
      w.set_mx4_code(4, 5, 15);  // -6 x 2^127, which is beyond a float
      w.set_exponent(4, 5, 254);
      w.set_mx4_code(5, 5, 9);  // -0.5 x 2^120, times 127
      w.set_exponent(5, 5, 247);
      const auto out = tests::fast_products(*kernels, w, x);
      for (std::size_t r = 0; r < batch; ++r) {
        CHECK(out[r * 64 + 3] == 127 * 0x1p-128f);
        CHECK(out[r * 64 + 4] == -std::numeric_limits<float>::infinity());
        CHECK(out[r * 64 + 5] == -127 * 0x1p119f);
        CHECK(out[r * 64 + 6] == 0.0f);
      }
    }
  }
}

TEST_CASE("mx4: products are those of the released weights") {
  // The sums in floats round at most once a block and twice a chunk, each time to 2^-24 of a partial sum.
  const RandomMatrix w = with_spread(64, 2880, 112, 9, 6, 3);
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  runtime::InputRowsBuffer buffer;
  const InputRows x = tests::random_input(buffer, kernels, 3, 2880, 128, 9);
  const auto view = x.quantized();
  const auto out = tests::fast_products(kernels, w, x);
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t n = 0; n < 64; ++n) {
      double exact = 0, magnitude = 0;
      for (std::size_t c = 0; c < 2880; ++c) {
        const std::size_t chunk = c / 128, width = std::min<std::size_t>(128, 2880 - chunk * 128);
        const double product = static_cast<double>(view.codes[chunk * 128 * 3 + r * width + c % 128]) *
                               static_cast<double>(view.scales[chunk * 3 + r]) *
                               static_cast<double>(format::weight_at(w.layout, w.view(), n, c));
        exact += product;
        magnitude += std::fabs(product);
      }
      REQUIRE(std::fabs(static_cast<double>(out[r * 64 + n]) - exact) <= magnitude * (90 + 23) * 0x1p-24);
    }
  }
}
