#include "convert/kernels/kernels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace sluice::convert;

namespace {

/// The kernels that this CPU can execute, except the generic ones.
std::vector<const Kernels*> fast_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) found.push_back(&avx2_kernels());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512_kernels());
#endif
  return found;
}

struct Q4Result {
  float scale = 0;
  std::vector<std::uint32_t> words;
  std::vector<std::int8_t> sub_scales;
  RowError error;

  [[nodiscard]] int code(std::size_t col) const {
    const std::size_t shift = col % 4 * 8 + (col / 4 % 2 == 1 ? 4 : 0);
    return static_cast<int>(words[col / 8] >> shift & 15) - 8;
  }
};

Q4Result quantize(const Kernels& kernels, const std::vector<float>& row) {
  const std::size_t blocks = row.size() / kBlockCols;
  Q4Result result;
  result.words.resize(row.size() / 8);
  result.sub_scales.resize(row.size() / 16);
  result.scale =
      kernels.quantize_q4(row.data(), blocks, result.words.data(), result.sub_scales.data(), result.error);
  return result;
}

double squared_error(const std::vector<float>& row, const Q4Result& q) {
  double error = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const int integer = q.code(i) * q.sub_scales[i / 16];
    const double difference =
        static_cast<double>(row[i]) - static_cast<double>(q.scale * static_cast<float>(integer));
    error += difference * difference;
  }
  return error;
}

/// The reference search: tries all 32 sub-scales of every group under a row scale, in double.
double best_error(const std::vector<float>& row, double scale) {
  double total = 0;
  for (std::size_t g = 0; g < row.size(); g += 16) {
    double best = std::numeric_limits<double>::infinity();
    for (int sub_scale = -16; sub_scale <= 16; ++sub_scale) {
      if (sub_scale == 0) continue;
      const double low = sub_scale == -16 ? -7 : -8;
      double error = 0;
      for (std::size_t i = g; i < g + 16; ++i) {
        const double step = scale * sub_scale;
        const auto weight = static_cast<double>(row[i]);
        const double difference = weight - step * std::clamp(std::nearbyint(weight / step), low, 7.0);
        error += difference * difference;
      }
      best = std::min(best, error);
    }
    total += best;
  }
  return total;
}

std::vector<std::vector<float>> sample_rows() {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  std::student_t_distribution<float> heavy(5);
  std::vector<std::vector<float>> rows;
  for (const std::size_t cols : {256u, 512u, 1536u, 4096u, 14336u}) {
    for (const float size : {0.02f, 1e-30f, 1e30f}) {
      rows.emplace_back(cols);
      for (float& w : rows.back()) w = normal(random) * size;
      rows.emplace_back(cols);
      for (float& w : rows.back()) w = heavy(random) * size;
    }
  }
  rows.emplace_back(512, 0.0f);
  rows.emplace_back(512, -0.25f);
  rows.emplace_back(512);  // one weight alone
  rows.back()[300] = 3;
  rows.emplace_back(512);  // ties everywhere
  for (std::size_t i = 0; i < 512; ++i) rows.back()[i] = static_cast<float>(i % 17) - 8;
  rows.emplace_back(512, 1e-42f);
  return rows;
}

}  // namespace

TEST_CASE("all kernels make the same q4 rows, and say what error they leave") {
  for (const auto& row : sample_rows()) {
    CAPTURE(row.size());
    const Q4Result plain = quantize(generic_kernels(), row);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const int sub_scale = plain.sub_scales[i / 16];
      REQUIRE(std::abs(sub_scale) >= 1);
      REQUIRE(std::abs(sub_scale) <= 16);
      REQUIRE(plain.code(i) * sub_scale <= 127);
    }
    if (plain.scale > 0) {
      const double expected = squared_error(row, plain);
      CHECK(std::abs(plain.error.squared_error - expected) <=
            1e-3 * expected + 1e-6 * plain.error.squared_weights);
    }
    for (const Kernels* fast : fast_kernels()) {
      CAPTURE(fast->name);
      const Q4Result found = quantize(*fast, row);
      CHECK(std::bit_cast<std::uint32_t>(found.scale) == std::bit_cast<std::uint32_t>(plain.scale));
      CHECK(found.words == plain.words);
      CHECK(found.sub_scales == plain.sub_scales);
      CHECK(found.error.squared_error == plain.error.squared_error);
      CHECK(found.error.squared_weights == plain.error.squared_weights);
    }
  }
}

TEST_CASE("the q4 search finds what trying everything finds, within a hundredth") {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  std::student_t_distribution<float> heavy(5);
  for (const std::size_t cols : {256u, 4096u}) {
    for (const bool gaussian : {true, false}) {
      double found = 0;
      double best = 0;
      for (int r = 0; r < (cols == 256 ? 40 : 8); ++r) {
        std::vector<float> row(cols);
        for (float& w : row) w = gaussian ? normal(random) : heavy(random);
        found += squared_error(row, quantize(kernels(), row));
        const float most = *std::ranges::max_element(row, {}, [](float w) { return std::fabs(w); });
        double row_best = std::numeric_limits<double>::infinity();
        for (int i = 0; i < 100; ++i)
          row_best = std::min(
              row_best, best_error(row, static_cast<double>(std::fabs(most)) / 128 * (1.15 - 0.005 * i)));
        best += row_best;
      }
      const std::string name = std::to_string(cols) + (gaussian ? " Gaussian" : " Student t");
      MESSAGE(name << ": " << std::sqrt(found / best) << " times the least RMS error");
      CHECK(std::sqrt(found / best) < 1.01);
    }
  }
}

TEST_CASE("all kernels make the same q8 rows") {
  for (const auto& row : sample_rows()) {
    for (const std::size_t cols : {row.size(), row.size() - 5}) {
      RowError plain_error;
      std::vector<std::int8_t> plain(cols);
      const float scale = generic_kernels().quantize_q8(row.data(), cols, plain.data(), plain_error);
      for (const Kernels* fast : fast_kernels()) {
        CAPTURE(fast->name);
        RowError error;
        std::vector<std::int8_t> codes(cols);
        CHECK(fast->quantize_q8(row.data(), cols, codes.data(), error) == scale);
        CHECK(codes == plain);
        CHECK(error.squared_error == plain_error.squared_error);
        CHECK(error.squared_weights == plain_error.squared_weights);
      }
    }
  }
}

TEST_CASE("all kernels make the same q6 rows, which are those of the definition") {
  for (const auto& row : sample_rows()) {
    const std::size_t blocks = row.size() / kBlockCols;
    if (blocks == 0 || row.size() % kBlockCols != 0) continue;
    RowError plain_error;
    std::vector<std::uint8_t> plain(row.size());
    std::vector<std::int8_t> plain_scales(row.size() / 16);
    const float scale =
        generic_kernels().quantize_q6(row.data(), blocks, plain.data(), plain_scales.data(), plain_error);
    const float most = std::fabs(*std::ranges::max_element(row, {}, [](float w) { return std::fabs(w); }));
    if (scale != 0) REQUIRE(scale == most / 126.0f);
    double squared_error = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const int sub_scale = plain_scales[i / 16];
      const int code = static_cast<int>(plain[i]) - 32;
      REQUIRE((sub_scale >= 1 && sub_scale <= 4));
      REQUIRE((code >= -32 && code <= 31));
      const double difference = static_cast<double>(row[i]) - static_cast<double>(scale) * code * sub_scale;
      squared_error += difference * difference;
      // Half a step, also at the largest positive code, which is one less than the largest negative one.
      if (scale != 0) REQUIRE(std::fabs(difference) <= 0.51 * static_cast<double>(scale) * sub_scale);
      // The next smaller sub-scale would be too small.
      if (scale != 0 && i % 16 == 0 && sub_scale > 1) {
        float largest = 0;
        for (std::size_t k = i; k < i + 16; ++k) largest = std::max(largest, std::fabs(row[k]));
        REQUIRE(largest > 31.49f * static_cast<float>(sub_scale - 1) * scale);
      }
    }
    CHECK(plain_error.squared_error == doctest::Approx(squared_error).epsilon(1e-4));
    for (const Kernels* fast : fast_kernels()) {
      CAPTURE(fast->name);
      RowError error;
      std::vector<std::uint8_t> codes(row.size());
      std::vector<std::int8_t> scales(row.size() / 16);
      CHECK(fast->quantize_q6(row.data(), blocks, codes.data(), scales.data(), error) == scale);
      CHECK(codes == plain);
      CHECK(scales == plain_scales);
      CHECK(error.squared_error == plain_error.squared_error);
      CHECK(error.squared_weights == plain_error.squared_weights);
    }
  }
}

TEST_CASE("bf16 rows are widened exactly, and NaN and infinity are seen at every place") {
  std::vector<const Kernels*> every = fast_kernels();
  every.push_back(&generic_kernels());
  std::mt19937 random(1);
  for (const Kernels* one : every) {
    CAPTURE(one->name);
    std::vector<std::uint16_t> bits(77);
    for (auto& b : bits) b = static_cast<std::uint16_t>(random() & 0xbfff);  // finite
    std::vector<float> wide(bits.size());
    CHECK(one->widen_bf16(bits.data(), bits.size(), wide.data()));
    for (std::size_t i = 0; i < bits.size(); ++i)
      REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == std::uint32_t{bits[i]} << 16);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      for (const int bad : {0x7f80, 0xff80, 0x7fc1, 0xff81}) {
        auto spoilt = bits;
        spoilt[i] = static_cast<std::uint16_t>(bad);
        REQUIRE(!one->finite_bf16(spoilt.data(), spoilt.size()));
        REQUIRE(!one->widen_bf16(spoilt.data(), spoilt.size(), wide.data()));
      }
    }
  }
}

TEST_CASE("words of sixteen rows go where a panel has them") {
  std::vector<const Kernels*> every = fast_kernels();
  every.push_back(&generic_kernels());
  for (const Kernels* one : every) {
    CAPTURE(one->name);
    for (const std::size_t steps : {1u, 8u, 13u, 64u}) {
      const std::size_t stride = steps + 3;
      std::vector<std::uint32_t> words(16 * stride);
      for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(i * 0x9E3779B1u);
      std::vector<std::byte> out(steps * 256);
      one->interleave(words.data(), stride, steps, out.data());
      for (std::size_t step = 0; step < steps; ++step) {
        for (std::size_t row = 0; row < 16; ++row) {
          std::uint32_t word;
          std::memcpy(&word, &out[step * 256 + row * 4], sizeof(word));
          REQUIRE(word == words[row * stride + step]);
        }
      }
    }
  }
}
