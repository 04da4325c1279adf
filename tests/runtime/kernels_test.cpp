// Every instruction set against the slow twins in format/tile.h and against each other, bit for bit.

#include "runtime/kernels/kernels.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/isa.h"
#include "tests/runtime/kernel_twins.h"

using namespace sluice;
using runtime::Buffer;
using runtime::InputRows;
using runtime::Isa;
using runtime::Kernels;
using tests::all_kernels;
using tests::random_floats;
using tests::random_input;
using tests::RandomMatrix;
using tests::same_bits;
using tests::slow_product;
using tests::slow_products;

namespace {

constexpr std::array kIntegerTypes = {format::TileType::q8, format::TileType::q6, format::TileType::q4,
                                      format::TileType::mx4};

auto multiply_of(const Kernels& kernels, format::TileType type) {
  if (type == format::TileType::q8) return kernels.multiply_q8;
  if (type == format::TileType::mx4) return kernels.multiply_mx4;
  return type == format::TileType::q6 ? kernels.multiply_q6 : kernels.multiply_q4;
}

struct Extreme {
  int code;
  int sub_scale;  ///< q8: has none; mx4: the exponent
};

Extreme least_of(format::TileType type) {
  if (type == format::TileType::q8) return {-128, 1};
  if (type == format::TileType::mx4) return {15, 120};                      // codes of -6 and 6
  return type == format::TileType::q6 ? Extreme{-32, 4} : Extreme{-8, 15};  // -8 x -16 does not occur in q4
}

Extreme most_of(format::TileType type) {
  if (type == format::TileType::q8) return {127, 1};
  if (type == format::TileType::mx4) return {7, 120};
  return type == format::TileType::q6 ? Extreme{31, 4} : Extreme{7, 16};
}

}  // namespace

TEST_CASE("integer products are those of the definition, on every instruction set") {
  const auto& generic = runtime::kernels_for(Isa::generic);
  for (const auto type : kIntegerTypes) {
    std::uint64_t seed = 1;
    for (const auto& [rows, cols] :
         {std::pair{64, 64}, {64, 192}, {70, 128}, {1, 40}, {130, 320}, {64, 1000}}) {
      const RandomMatrix w(type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols), ++seed);
      for (const std::size_t batch : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 9u, 23u}) {
        for (const std::size_t chunk : {32u, 64u, 96u, 128u}) {
          runtime::InputRowsBuffer buffer;
          const InputRows x = random_input(buffer, generic, batch, w.layout.padded_cols, chunk, ++seed);
          const std::size_t width = w.layout.panels * 64;
          std::vector<runtime::PanelView> panels;
          for (std::size_t p = 0; p < w.layout.panels; ++p) panels.push_back(w.matrix().panel(p));
          const auto expected = slow_products(w, x.quantized());
          for (const Kernels* kernels : all_kernels()) {
            CAPTURE(std::string(kernels->name));
            CAPTURE(batch);
            CAPTURE(cols);
            std::vector<float> out(batch * width);
            multiply_of(*kernels, type)(panels.data(), panels.size(), x.quantized(), out.data(), width);
            REQUIRE(same_bits(out, expected));
          }
        }
      }
    }
  }
}

TEST_CASE("integer products are the same on every instruction set, over random shapes") {
  std::mt19937_64 random(5);
  const auto& generic = runtime::kernels_for(Isa::generic);
  for (int round = 0; round < 60; ++round) {
    const auto type = kIntegerTypes[static_cast<std::size_t>(round) % kIntegerTypes.size()];
    const RandomMatrix w(type, 1 + random() % 256, 1 + random() % 700, random());
    const std::size_t batch = 1 + random() % 70;
    runtime::InputRowsBuffer buffer;
    const InputRows x =
        random_input(buffer, generic, batch, w.layout.padded_cols, 32 << random() % 3, random());
    std::vector<runtime::PanelView> panels;
    for (std::size_t p = 0; p < w.layout.panels; ++p) panels.push_back(w.matrix().panel(p));
    const std::size_t stride = w.layout.panels * 64 + 16 * (random() % 3);
    const auto product = [&](const Kernels& kernels) {
      std::vector<float> out(batch * stride);
      multiply_of(kernels, type)(panels.data(), panels.size(), x.quantized(), out.data(), stride);
      return out;
    };
    const auto expected = product(generic);
    for (const Kernels* kernels : all_kernels()) {
      CAPTURE(std::string(kernels->name));
      CAPTURE(batch);
      REQUIRE(same_bits(product(*kernels), expected));
    }
  }
}

TEST_CASE("the largest weights against the largest activations do not saturate") {
  // Where 16-bit sums of products would overflow first: the same extreme in every place, and the signs of
  // weights and activations alternating, for one row (decode) and for many.
  const std::size_t cols = 128;
  for (const auto type : kIntegerTypes) {
    for (const Extreme& extreme : {least_of(type), most_of(type)}) {
      for (const int activation : {-127, 127}) {
        for (const bool alternate : {false, true}) {
          RandomMatrix w(type, 64, cols, 1);
          w.fill(extreme.code, alternate, extreme.sub_scale);
          std::vector<float> row(cols, static_cast<float>(activation));
          for (std::size_t c = 1; alternate && c < cols; c += 2) row[c] = -row[c];
          for (const Kernels* kernels : all_kernels()) {
            for (const std::size_t batch : {1u, 7u}) {
              CAPTURE(std::string(kernels->name));
              CAPTURE(extreme.code);
              CAPTURE(activation);
              runtime::InputRowsBuffer buffer;
              const InputRows x = buffer.reset(type, batch, cols, cols);
              for (std::size_t r = 0; r < batch; ++r) x.fill(*kernels, r, 0, cols, row.data());
              const runtime::PanelView panel = w.matrix().panel(0);
              std::vector<float> out(batch * 64);
              multiply_of(*kernels, type)(&panel, 1, x.quantized(), out.data(), 64);
              const auto expected = slow_product(w, x.quantized(), 0);
              REQUIRE(same_bits(out, expected));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("bf16 products sum in order of the inputs, whatever the batch") {
  const RandomMatrix w(format::TileType::bf16, 180, 200, 3);
  const std::size_t cols = w.layout.padded_cols;
  const std::size_t width = w.layout.padded_rows;
  std::vector<runtime::PanelView> panels;
  for (std::size_t p = 0; p < w.layout.panels; ++p) panels.push_back(w.matrix().panel(p));
  std::vector<float> weights(width * cols);
  for (std::size_t n = 0; n < width; ++n)
    for (std::size_t c = 0; c < cols; ++c)
      weights[n * cols + c] = format::weight_at(w.layout, w.view(), n, c);
  for (const std::size_t batch : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 11u, 12u, 13u, 23u, 25u, 37u}) {
    const auto x = random_floats(batch * cols, 5);
    std::vector<float> expected(batch * width);
    for (std::size_t r = 0; r < batch; ++r)
      for (std::size_t n = 0; n < width; ++n)
        for (std::size_t c = 0; c < cols; ++c)
          expected[r * width + n] = std::fma(weights[n * cols + c], x[r * cols + c], expected[r * width + n]);
    for (const Kernels* kernels : all_kernels()) {
      CAPTURE(std::string(kernels->name));
      CAPTURE(batch);
      std::vector<float> out(batch * width);
      kernels->multiply_bf16(panels.data(), panels.size(), x.data(), batch, cols, out.data(), width);
      REQUIRE(same_bits(out, expected));
    }
  }
}

TEST_CASE("float kernels give the same bits on every instruction set") {
  const std::size_t n = 192;
  const auto a = random_floats(n, 1, 3.0f);
  const auto b = random_floats(n, 2, 3.0f);
  const auto run = [&](const Kernels& k) {
    std::vector<float> all;
    const auto keep = [&](const std::vector<float>& values) {
      all.insert(all.end(), values.begin(), values.end());
    };
    std::vector<float> out(n);
    k.rms_norm(a.data(), b.data(), 1e-5f, 190, n, out.data());
    keep(out);
    for (const auto kind : {runtime::ActivationKind::silu, runtime::ActivationKind::gelu_tanh,
                            runtime::ActivationKind::clamped_swiglu}) {
      k.activate({kind, 1.702f, 2.0f}, a.data(), b.data(), n, out.data());
      keep(out);
    }
    out = a;
    k.soft_cap(1.5f, n, out.data());
    keep(out);
    out = a;
    k.sigmoid(out.data(), n);
    keep(out);
    out = b;
    k.add_scaled(a.data(), 0.37f, n, out.data());
    k.add(b.data(), n, out.data());
    k.multiply(a.data(), n, out.data());
    keep(out);
    const auto dot = [&](const float* x, const float* w, std::size_t count) {
      float sum = 0;
      k.dots(x, count, 1, w, count, 1, count, &sum, 1);
      return sum;
    };
    all.push_back(dot(a.data(), b.data(), n));
    // Rows of 48 floats of which 32 count; sums are the same however many are made at a time.
    for (const std::size_t rows : {1u, 2u, 3u, 4u, 9u}) {
      for (const std::size_t count : {1u, 3u, 4u, 8u, 13u}) {
        const auto x = random_floats(rows * 48, 5, 3.0f);
        const auto w = random_floats(count * 64, 6, 3.0f);
        std::vector<float> sums(rows * (count + 1), 7.0f);
        k.dots(x.data(), 48, rows, w.data(), 64, count, 32, sums.data(), count + 1);
        for (std::size_t r = 0; r < rows; ++r) {
          CHECK(sums[r * (count + 1) + count] == 7.0f);
          for (std::size_t i = 0; i < count; ++i)
            CHECK(sums[r * (count + 1) + i] == dot(&x[r * 48], &w[i * 64], 32));
        }
        keep(sums);
      }
    }
    out = a;
    all.push_back(k.exp_sum(out.data(), 187, 3.0f));
    keep(out);
    for (const std::size_t end : {1u, 63u, 64u, 65u, 200u}) {
      const std::size_t stride = 32;
      // Four pages, each of 64 keys and then 64 values.
      const auto rows = random_floats(4 * 2 * runtime::kKvPageTokens * stride, 3);
      std::vector<std::uint16_t> rows16(rows.size());
      k.to_bf16(rows.data(), rows.size(), rows16.data());
      std::vector<float> result(stride);
      const auto attend = [&](const auto& elements, runtime::KvElement element, std::size_t first,
                              const runtime::ScoreRule& rule) {
        const std::size_t array_bytes = runtime::kKvPageTokens * stride * sizeof(elements[0]);
        std::vector<const std::byte*> pages;
        for (std::size_t page = 0; page < 4; ++page)
          pages.push_back(reinterpret_cast<const std::byte*>(elements.data()) + page * 2 * array_bytes);
        k.attend(a.data(), 1, {pages.data(), 0, array_bytes, 0, 0, stride, stride, element}, first, end, rule,
                 result.data());
        keep(result);
      };
      const float sink = 0.7f;
      attend(rows, runtime::KvElement::f32, end / 3, {nullptr, 0});
      attend(rows16, runtime::KvElement::bf16, 0, {nullptr, 0});
      attend(rows16, runtime::KvElement::bf16, 0, {&sink, 3});
    }
    return all;
  };
  const auto expected = run(runtime::kernels_for(Isa::generic));
  for (const Kernels* kernels : all_kernels()) {
    CAPTURE(std::string(kernels->name));
    CHECK(same_bits(run(*kernels), expected));
  }
}

TEST_CASE("exp is within two units in the last place over its range, and keeps NaN") {
  for (const Kernels* kernels : all_kernels()) {
    CAPTURE(std::string(kernels->name));
    double worst = 0;
    for (float x = -87.0f; x < 88.0f; x += 0.0137f) {
      float value[16] = {x};
      kernels->exp_sum(value, 1, 0.0f);
      const double expected = std::exp(static_cast<double>(x));
      worst = std::max(worst, std::fabs(static_cast<double>(value[0]) - expected) / (expected * 0x1p-24));
    }
    MESSAGE("largest error: " << worst << " half units in the last place");
    CHECK(worst <= 4);
    float special[16] = {-200.0f, -INFINITY, NAN};
    kernels->exp_sum(special, 3, 0.0f);
    CHECK(special[0] == 0.0f);
    CHECK(special[1] == 0.0f);
    CHECK(std::isnan(special[2]));
  }
}

TEST_CASE("quantization rounds to nearest even, and its sums are the sums of its codes") {
  for (const Kernels* kernels : all_kernels()) {
    CAPTURE(std::string(kernels->name));
    const auto x = random_floats(128, 9);
    std::vector<std::int8_t> codes(128);
    float scale = 0;
    std::vector<std::int32_t> groups(8 * 3);
    const std::int32_t sum = kernels->quantize_chunk(x.data(), 128, codes.data(), &scale, groups.data(), 3);
    float most = 0;
    for (const float v : x) most = std::max(most, std::fabs(v));
    CHECK(scale == most / 127.0f);
    std::int32_t expected_sum = 0;
    for (std::size_t i = 0; i < 128; ++i) {
      REQUIRE(codes[i] == static_cast<std::int8_t>(std::nearbyintf(x[i] * (127.0f / most))));
      expected_sum += codes[i];
      if (i % 16 == 15) {
        std::int32_t group = 0;
        for (std::size_t j = i - 15; j <= i; ++j) group += codes[j];
        REQUIRE(groups[i / 16 * 3] == group);
      }
    }
    CHECK(sum == expected_sum);

    const std::vector<float> nothing(64);
    CHECK(kernels->quantize_chunk(nothing.data(), 64, codes.data(), &scale, groups.data(), 1) == 0);
    CHECK(scale == 0);
    CHECK(codes[0] == 0);
  }
}

TEST_CASE("quantization gives the same codes and sums everywhere, also of values that are no numbers") {
  const float least = std::numeric_limits<float>::denorm_min();
  const float largest = std::numeric_limits<float>::max();
  const float strange[] = {NAN, INFINITY, -INFINITY, -0.0f, least, -largest, largest};
  for (const float value : strange) {
    CAPTURE(value);
    for (std::size_t place = 0; place < 32; ++place) {
      auto x = random_floats(32, place);
      x[place] = value;
      std::vector<std::int8_t> expected_codes(32);
      std::vector<std::int32_t> expected_groups(2);
      float expected_scale = 0;
      const std::int32_t expected_sum = sluice::runtime::generic_kernels().quantize_chunk(
          x.data(), 32, expected_codes.data(), &expected_scale, expected_groups.data(), 1);
      CHECK(std::isfinite(expected_scale) == std::isfinite(value));
      for (const Kernels* kernels : all_kernels()) {
        CAPTURE(std::string(kernels->name));
        std::vector<std::int8_t> codes(32);
        std::vector<std::int32_t> groups(2);
        float scale = 0;
        CHECK(kernels->quantize_chunk(x.data(), 32, codes.data(), &scale, groups.data(), 1) == expected_sum);
        CHECK(codes == expected_codes);
        CHECK(groups == expected_groups);
        if (std::isfinite(value)) CHECK(scale == expected_scale);
        CHECK(std::isfinite(scale) == std::isfinite(value));
      }
    }
  }
}
