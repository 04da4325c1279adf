// Products of one matrix with mx4 weights against q4, by turns on one thread: the kernels of one instruction
// set, by rows and by the width of the chunks of activations.
//
//   mx4_speed [--isa avx512|avxvnni|avx2|generic] [--outputs 2880] [--inputs 2880] [--rounds 15] [--spread N]
//
// `cache`: 256 outputs, which stay in the L2 cache, again and again. `memory`: copies of the whole matrix,
// which together are far larger than the caches, one after the other. Numbers are medians over the rounds,
// and the ratio is the median of the rounds' ratios (above 1: mx4 is faster). Time is that of the thread, so
// that other processes on its core do not count.
//
// Exponents are those of Gaussian weights; with --spread they are uniform in so many steps, so that chunks
// cannot be folded where it is large (runtime/kernels/mx4_products-inl.h).

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/kernels/isa.h"
#include "runtime/kernels/products.h"
#include "runtime/runtime.h"

namespace {

using namespace sluice;
using format::TileType;

constexpr std::size_t kMemoryBytes = std::size_t{160} << 20;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Copies of a matrix of random codes.
class Weights {
 public:
  Weights(TileType type, std::size_t outputs, std::size_t inputs, std::size_t copies, int spread)
      : layout_(type, outputs, inputs),
        step_(base::align_up(layout_.total_bytes, 64)),
        memory_(static_cast<std::byte*>(
            std::aligned_alloc(std::size_t{2} << 20, base::align_up(step_ * copies, 2 << 20)))),
        copies_(copies) {
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i + 8 <= layout_.total_bytes; i += 8) {
      const std::uint64_t bits = random();
      std::memcpy(memory_.get() + i, &bits, 8);
    }
    std::normal_distribution<double> normal;
    for (std::size_t i = 0; i < layout_.panels * layout_.panel_exponent_bytes(); ++i) {
      double largest = 1e-3;
      for (int w = 0; spread < 0 && w < 32; ++w) largest = std::max(largest, std::fabs(normal(random)));
      const int exponent = spread < 0 ? static_cast<int>(std::floor(std::log2(largest)))
                                      : static_cast<int>(random() % static_cast<unsigned>(spread + 1));
      memory_.get()[layout_.exponents_offset_bytes + i] = static_cast<std::byte>(118 + exponent);
    }
    if (format::has_row_scales(type)) {
      const std::vector<float> scales(layout_.padded_rows, 1e-4f);
      std::memcpy(memory_.get() + layout_.row_scales_offset_bytes, scales.data(), scales.size() * 4);
    }
    for (std::size_t c = 1; c < copies; ++c)
      std::memcpy(memory_.get() + c * step_, memory_.get(), layout_.total_bytes);
  }

  [[nodiscard]] runtime::Matrix copy(std::size_t i) const {
    return {layout_, memory_.get() + i % copies_ * step_};
  }
  [[nodiscard]] std::size_t copies() const { return copies_; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };

  format::TileLayout layout_;
  std::size_t step_;
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t copies_;
};

/// Seconds of a product with every copy.
double measure(const runtime::Kernels& kernels, const Weights& weights, const runtime::InputRows& x,
               std::size_t repetitions, std::vector<float>& out) {
  const double start = thread_seconds();
  for (std::size_t i = 0; i < repetitions * weights.copies(); ++i) {
    const runtime::Matrix matrix = weights.copy(i);
    for (std::size_t p = 0; p < matrix.layout.panels; p += runtime::kSlicePanels)
      runtime::multiply(kernels, matrix, x, p, std::min(runtime::kSlicePanels, matrix.layout.panels - p),
                        out.data(), 64 * runtime::kSlicePanels);
  }
  return (thread_seconds() - start) / static_cast<double>(repetitions * weights.copies());
}

struct Arguments {
  runtime::Isa isa = runtime::detect_isa();
  std::map<std::string, int> values = {
      {"--outputs", 2880}, {"--inputs", 2880}, {"--rounds", 15}, {"--spread", -1}};

  Arguments(int count, char** words) {
    for (int i = 1; i + 1 < count; i += 2) {
      const std::string word = words[i];
      if (word == "--isa") {
        const auto parsed = runtime::parse_isa(words[i + 1]);
        if (!parsed) throw base::Error(base::ErrorKind::usage, "unknown --isa " + std::string(words[i + 1]));
        isa = *parsed;
      } else if (values.contains(word)) {
        values[word] = std::stoi(words[i + 1]);
      } else {
        throw base::Error(base::ErrorKind::usage, "unexpected argument '" + word + "'");
      }
    }
  }
};

void compare(const Arguments& arguments, bool in_memory) {
  const runtime::Kernels& kernels = runtime::kernels_for(arguments.isa);
  const auto inputs = static_cast<std::size_t>(arguments.values.at("--inputs"));
  const std::size_t outputs = in_memory ? static_cast<std::size_t>(arguments.values.at("--outputs")) : 256;
  const std::size_t copies = in_memory ? kMemoryBytes / (outputs * inputs / 2) : 1;
  const Weights q4(TileType::q4, outputs, inputs, copies, 0);
  const Weights mx4(TileType::mx4, outputs, inputs, copies, arguments.values.at("--spread"));
  for (const std::size_t rows : {1u, 2u, 3u, 4u, 6u, 8u, 16u, 64u, 256u}) {
    if (in_memory && rows > 2) break;
    for (const std::size_t chunk : {128u, 32u}) {
      runtime::InputRowsBuffer buffer;
      const auto x = buffer.reset(TileType::q4, rows, base::align_up(inputs, 64), chunk);
      std::mt19937_64 random(2);
      std::vector<float> row(x.cols());
      for (std::size_t r = 0; r < rows; ++r) {
        for (float& v : row) v = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
        x.fill(kernels, r, 0, x.cols(), row.data());
      }
      std::vector<float> out(rows * 64 * runtime::kSlicePanels);
      const std::size_t repetitions = in_memory ? 1 : 1 + 400 / rows;
      std::vector<double> q4_s, mx4_s, ratios;
      for (int round = 0; round < arguments.values.at("--rounds"); ++round) {
        q4_s.push_back(measure(kernels, q4, x, repetitions, out));
        mx4_s.push_back(measure(kernels, mx4, x, repetitions, out));
        ratios.push_back(q4_s.back() / mx4_s.back());
      }
      const double operations = 2.0 * static_cast<double>(outputs * inputs * rows) * 1e-9;
      const auto bytes = [&](const Weights& w) {
        return static_cast<double>(w.copy(0).layout.total_bytes) * 1e-9;
      };
      std::printf(
          "%-8s %-7s rows %4zu chunk %4zu  q4 %7.1f GOPS %5.1f GB/s  mx4 %7.1f GOPS %5.1f GB/s  ratio %.2f\n",
          kernels.name, in_memory ? "memory" : "cache", rows, chunk, operations / median(q4_s),
          bytes(q4) / median(q4_s), operations / median(mx4_s), bytes(mx4) / median(mx4_s), median(ratios));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments(argc, argv);
    compare(arguments, false);
    compare(arguments, true);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mx4_speed: %s\n", error.what());
    return 1;
  }
}
