// Own kernels against oneDNN, for one matrix in the shape of Mixtral's w1 (4096 inputs, 14336 outputs): GOPS
// by type and rows, for every instruction set of the own kernels. docs/performance.md has the table.
//
//   onednn_speed [THREADS]
//
// oneDNN's instruction set is limited with ONEDNN_MAX_CPU_ISA (AVX2, AVX512_CORE, ...). "bare" is one oneDNN
// matmul of the whole matrix, in the layout that oneDNN prefers, on its own OpenMP threads.

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "format/tile.h"
#include "runtime/kernels/isa.h"
#include "runtime/kernels/products.h"
#include "runtime/onednn/onednn.h"
#include "runtime/runtime.h"
#include "tests/runtime/random_matrix.h"

namespace {

using namespace sluice;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kInputs = 4096;
constexpr std::size_t kOutputs = 14336;

/// Billions of operations a second, the median of some repetitions of at least 0.1 s together.
double gops(std::size_t rows, const std::function<void()>& product) {
  product();
  std::vector<double> seconds;
  double total = 0;
  while (seconds.size() < 5 || (total < 0.5 && seconds.size() < 100)) {
    const auto start = Clock::now();
    product();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += seconds.back();
  }
  std::ranges::sort(seconds);
  return 2.0 * static_cast<double>(rows * kInputs * kOutputs) / seconds[seconds.size() / 2] / 1e9;
}

class Case {
 public:
  Case(const tests::RandomMatrix& weights, std::size_t rows, base::WorkerPool& pool)
      : matrix_(weights.matrix()), pool_(pool), out_(rows * kOutputs), rows_(rows) {
    const auto& kernels = runtime::kernels_for(runtime::detect_isa());
    input_ = std::make_unique<runtime::InputRows>(buffer_.reset(matrix_.layout.type, rows, kInputs, 128));
    std::vector<float> row(kInputs);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < kInputs; ++c)
        row[c] = static_cast<float>((r * 31 + c * 17) % 201) * 0.01f - 1.0f;
      input_->fill(kernels, r, 0, kInputs, row.data());
    }
  }

  double own(runtime::Isa isa) {
    const auto& kernels = runtime::kernels_for(isa);
    return gops(rows_, [&] {
      slices([&](std::size_t first, float* out, unsigned) {
        runtime::multiply(kernels, matrix_, *input_, first, runtime::kSlicePanels, out, kOutputs);
      });
    });
  }

  double onednn() {
    runtime::OneDnnProducts products(runtime::kernels_for(runtime::detect_isa()), pool_.thread_count());
    return gops(rows_, [&] {
      slices([&](std::size_t first, float* out, unsigned worker) {
        products.multiply(matrix_, *input_, first, runtime::kSlicePanels, out, kOutputs, worker);
      });
    });
  }

 private:
  template <typename F>
  void slices(F body) {
    pool_.run_in_shares(matrix_.layout.panels / runtime::kSlicePanels,
                        [&](std::size_t task, unsigned worker) {
                          const std::size_t first = task * runtime::kSlicePanels;
                          body(first, out_.data() + first * format::kPanelRows, worker);
                        });
  }

  runtime::Matrix matrix_;
  base::WorkerPool& pool_;
  runtime::InputRowsBuffer buffer_;
  std::unique_ptr<runtime::InputRows> input_;
  std::vector<float> out_;
  std::size_t rows_;
};

double bare(dnnl::memory::data_type type, dnnl::memory::data_type weights_type,
            dnnl::memory::data_type out_type, std::size_t rows, unsigned threads) {
  using dnnl::memory;
  omp_set_num_threads(static_cast<int>(threads));
  const auto m = static_cast<memory::dim>(rows);
  const auto k = static_cast<memory::dim>(kInputs);
  const auto n = static_cast<memory::dim>(kOutputs);
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc source({m, k}, type, memory::format_tag::ab);
  const memory::desc weights({k, n}, weights_type, memory::format_tag::any);
  const memory::desc out({m, n}, out_type, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weights, out), engine);
  const dnnl::matmul matmul(description);
  memory a(source, engine);
  memory b(description.weights_desc(), engine);
  memory c(out, engine);
  std::fill_n(static_cast<std::byte*>(a.get_data_handle()), source.get_size(), std::byte{1});
  std::fill_n(static_cast<std::byte*>(b.get_data_handle()), description.weights_desc().get_size(),
              std::byte{1});
  const double rate = gops(rows, [&] {
    matmul.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
  });
  omp_set_num_threads(1);
  return rate;
}

void run(unsigned threads) {
  using Type = dnnl::memory::data_type;
  const auto info = runtime::matmul_info();
  const auto has = runtime::onednn_isa();
  std::printf("oneDNN %s uses %s; %u threads; GOPS\n\n", info.onednn_version.c_str(), info.onednn_isa.c_str(),
              threads);
  std::printf("| type | rows |");
  for (const auto isa : runtime::kIsas)
    if (isa != runtime::Isa::generic && runtime::is_supported(isa))
      std::printf(" own, %s |", std::string(to_string(isa)).c_str());
  std::printf(" oneDNN in slices | bare oneDNN |\n");
  base::WorkerPool pool(threads, base::WorkerPool::Placement::a_core_each);
  for (const auto type : {format::TileType::bf16, format::TileType::q8, format::TileType::q4}) {
    const tests::RandomMatrix weights(type, kOutputs, kInputs, 1);
    const bool is_float = type == format::TileType::bf16;
    for (const std::size_t rows : {1u, 8u, 16u, 32u, 128u, 512u}) {
      Case product(weights, rows, pool);
      std::printf("| %s | %zu |", std::string(to_string(type)).c_str(), rows);
      for (const auto isa : runtime::kIsas)
        if (isa != runtime::Isa::generic && runtime::is_supported(isa))
          std::printf(" %.0f |", product.own(isa));
      const bool possible = rows >= runtime::kOneDnnRowsMin && (is_float || has.vnni);
      std::printf(possible ? " %.0f |" : " - |", possible ? product.onednn() : 0);
      const Type float_type = has.bf16 ? Type::bf16 : Type::f32;
      if (is_float)
        std::printf(" %.0f |\n", bare(float_type, float_type, Type::f32, rows, threads));
      else if (has.vnni)
        std::printf(" %.0f |\n", bare(Type::u8, Type::s8, Type::s32, rows, threads));
      else
        std::printf(" - |\n");
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int count, char** words) {
  try {
    run(count > 1 ? static_cast<unsigned>(std::stoul(words[1])) : base::available_threads());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "onednn_speed: %s\n", error.what());
    return 1;
  }
}
