#pragma once
// For tests of kernels: all of this CPU's, and the products that kernels.h defines, one weight at a time.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/tile.h"
#include "runtime/kernels/isa.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/products.h"
#include "tests/runtime/random_matrix.h"

namespace sluice::tests {

inline std::vector<const runtime::Kernels*> all_kernels() {
  std::vector<const runtime::Kernels*> kernels;
  for (const runtime::Isa isa : runtime::kIsas) {
    try {
      kernels.push_back(&runtime::kernels_for(isa));
    } catch (const base::Error& error) {
      MESSAGE("SKIPPED: " << std::string(error.what()));
    }
  }
  return kernels;
}

/// Uniform in +-scale.
inline std::vector<float> random_floats(std::size_t count, std::uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 random(seed);
  std::vector<float> values(count);
  for (float& v : values) v = (static_cast<float>(random() % 200001) - 100000.0f) * 1e-5f * scale;
  return values;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline runtime::InputRows random_input(runtime::InputRowsBuffer& buffer, const runtime::Kernels& kernels,
                                       std::size_t rows, std::size_t cols, std::size_t chunk,
                                       std::uint64_t seed) {
  const runtime::InputRows input = buffer.reset(format::TileType::q8, rows, cols, chunk);
  for (std::size_t r = 0; r < rows; ++r)
    input.fill(kernels, r, 0, cols, random_floats(cols, seed + r).data());
  return input;
}

/// The sum of a chunk's products under the scale of the activations: an integer, or for mx4 block by block.
inline float slow_chunk(const RandomMatrix& w, std::size_t row, std::size_t first_col,
                        const std::int8_t* codes, std::size_t width) {
  const auto sum_of = [&](std::size_t from, std::size_t count) {
    std::int64_t sum = 0;
    for (std::size_t c = from; c < from + count; ++c)
      sum += format::integer_weight_at(w.layout, w.view(), row, first_col + c) * codes[c];
    return static_cast<float>(sum);
  };
  if (w.layout.type != format::TileType::mx4) return sum_of(0, width);
  float sum = 0;
  for (std::size_t c = 0; c < width; c += format::kMx4BlockCols) {
    const auto exponent = static_cast<int>(format::exponent_at(w.layout, w.view(), row, first_col + c));
    sum = std::fma(sum_of(c, format::kMx4BlockCols), std::ldexp(1.0f, exponent - 127), sum);
  }
  return sum;
}

/// What kernels.h says of the integer products, with the weights one by one: [row][64].
inline std::vector<float> slow_product(const RandomMatrix& w, const runtime::QuantizedView& x,
                                       std::size_t panel) {
  std::vector<float> out(x.rows * 64);
  for (std::size_t r = 0; r < x.rows; ++r) {
    for (std::size_t n = 0; n < 64; ++n) {
      float total = 0;
      for (std::size_t first = 0; first < x.cols; first += x.chunk_cols) {
        const std::size_t width = std::min(x.chunk_cols, x.cols - first);
        const float sum = slow_chunk(w, panel * 64 + n, first, x.codes + first * x.rows + r * width, width);
        total = std::fma(sum, x.scales[first / x.chunk_cols * x.rows + r], total);
      }
      out[r * 64 + n] = total * (format::has_row_scales(w.layout.type)
                                     ? format::row_scale_at(w.layout, w.view(), panel * 64 + n)
                                     : 0.5f);
    }
  }
  return out;
}

/// slow_product() of all panels side by side.
inline std::vector<float> slow_products(const RandomMatrix& w, const runtime::QuantizedView& x) {
  const std::size_t width = w.layout.padded_rows;
  std::vector<float> out(x.rows * width);
  for (std::size_t p = 0; p < w.layout.panels; ++p) {
    const auto of_panel = slow_product(w, x, p);
    for (std::size_t r = 0; r < x.rows; ++r) std::copy_n(&of_panel[r * 64], 64, &out[r * width + p * 64]);
  }
  return out;
}

/// Products with bf16 weights as kernels.h defines them. x: [rows][cols] without padding.
inline std::vector<float> slow_float_products(const RandomMatrix& w, const std::vector<float>& x,
                                              std::size_t rows) {
  const std::size_t width = w.layout.padded_rows;
  std::vector<float> out(rows * width);
  for (std::size_t n = 0; n < width; ++n)
    for (std::size_t c = 0; c < w.layout.cols; ++c) {
      const float weight = format::weight_at(w.layout, w.view(), n, c);
      for (std::size_t r = 0; r < rows; ++r)
        out[r * width + n] = std::fma(weight, x[r * w.layout.cols + c], out[r * width + n]);
    }
  return out;
}

/// Either of these by `kernels`.
inline std::vector<float> fast_products(const runtime::Kernels& kernels, const RandomMatrix& w,
                                        const runtime::InputRows& x) {
  const std::size_t width = w.layout.padded_rows;
  std::vector<float> out(x.rows() * width, -1.0f);
  for (std::size_t p = 0; p < w.layout.panels; p += runtime::kSlicePanels)
    runtime::multiply(kernels, w.matrix(), x, p, std::min(runtime::kSlicePanels, w.layout.panels - p),
                      out.data() + p * 64, width);
  return out;
}

}  // namespace sluice::tests
