// Products through oneDNN against the own kernels: the same bits for integers, close for bf16. The integer
// cases are also the test of the tiles' byte order against oneDNN's BA16a64b4a.

#include "runtime/onednn/onednn.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "runtime/kernels/isa.h"
#include "tests/runtime/random_matrix.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using format::TileType;
using runtime::InputRows;
using runtime::Isa;
using runtime::MatmulEngine;
using tests::RandomMatrix;

namespace {

constexpr std::array kIntegerTypes = {TileType::q8, TileType::q6, TileType::q4};

std::vector<float> random_row(std::size_t cols, std::mt19937_64& random) {
  std::vector<float> row(cols);
  for (float& v : row) v = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
  return row;
}

struct Products {
  std::vector<float> own;
  std::vector<float> onednn;
};

/// The panels [first, first + panels) of `w` by both engines; rows of results are `stride` floats apart.
Products both(const RandomMatrix& w, const InputRows& x, std::size_t first, std::size_t panels,
              std::size_t stride) {
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  Products products{std::vector<float>(x.rows() * stride), std::vector<float>(x.rows() * stride)};
  runtime::multiply(kernels, w.matrix(), x, first, panels, products.own.data(), stride);
  runtime::OneDnnProducts onednn(kernels, 2);
  onednn.multiply(w.matrix(), x, first, panels, products.onednn.data(), stride, 1);
  CHECK(onednn.calls() == 1);
  return products;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::size_t thread_count() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

}  // namespace

TEST_CASE("oneDNN and own kernels give the same bits for integers, over random shapes") {
  if (!runtime::onednn_isa().vnni) {
    MESSAGE("SKIPPED: this CPU has no AVX-512 VNNI, without which oneDNN's u8 x s8 saturates");
    return;
  }
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    const TileType type = kIntegerTypes[static_cast<std::size_t>(round) % kIntegerTypes.size()];
    const RandomMatrix w(type, 1 + random() % 400, 1 + random() % 700, random());
    const std::size_t rows = round < 3 ? 1100 : runtime::kOneDnnRowsMin + random() % 70;
    const std::size_t first = random() % w.layout.panels;
    const std::size_t panels = std::min(w.layout.panels - first, 1 + random() % runtime::kSlicePanels);
    runtime::InputRowsBuffer buffer;
    const InputRows x = buffer.reset(type, rows, w.layout.padded_cols, 32 * (1 + random() % 4));
    for (std::size_t r = 0; r < rows; ++r)
      x.fill(kernels, r, 0, x.cols(), random_row(x.cols(), random).data());
    const auto products = both(w, x, first, panels, panels * 64 + 16 * (random() % 3));
    CAPTURE(rows);
    CAPTURE(x.cols());
    CAPTURE(x.chunk_cols());
    REQUIRE(same_bits(products.own, products.onednn));
  }
}

TEST_CASE("oneDNN's products of 2880 inputs, whose last chunk is narrower, are those of the own kernels") {
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  std::mt19937_64 random(12);
  for (const TileType type : {TileType::q8, TileType::q6, TileType::q4, TileType::bf16}) {
    if (type != TileType::bf16 && !runtime::onednn_isa().vnni) continue;
    CAPTURE(format::to_string(type));
    for (const std::size_t cols : {64u, 192u, 2880u}) {
      const RandomMatrix w(type, 70, cols, random());
      runtime::InputRowsBuffer buffer;
      const InputRows x = buffer.reset(type, 9, cols, 128);
      for (std::size_t r = 0; r < 9; ++r) x.fill(kernels, r, 0, cols, random_row(cols, random).data());
      const auto products = both(w, x, 0, 2, 128);
      if (type != TileType::bf16) {
        REQUIRE(same_bits(products.own, products.onednn));
        continue;
      }
      // Activations are rounded to bf16: each by 2^-9 of at most 1, times weights of at most 1.
      for (std::size_t i = 0; i < products.own.size(); ++i)
        REQUIRE(std::fabs(products.own[i] - products.onednn[i]) <= static_cast<float>(cols) * 0x1p-9f);
    }
  }
}

TEST_CASE("oneDNN's integer products of the largest weights and activations do not saturate") {
  if (!runtime::onednn_isa().vnni) {
    MESSAGE("SKIPPED: this CPU has no AVX-512 VNNI, without which oneDNN's u8 x s8 saturates");
    return;
  }
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  for (const int code : {-128, 127}) {
    for (const float activation : {-1.0f, 1.0f}) {
      RandomMatrix w(TileType::q8, 64, 256, 1);
      w.fill(code, false, 1);
      runtime::InputRowsBuffer buffer;
      const InputRows x = buffer.reset(TileType::q8, 9, 256, 128);
      const std::vector<float> row(256, activation);
      for (std::size_t r = 0; r < 9; ++r) x.fill(kernels, r, 0, 256, row.data());
      const auto products = both(w, x, 0, 1, 64);
      CHECK(same_bits(products.own, products.onednn));
      const float scale = format::row_scale_at(w.layout, w.view(), 0);
      CHECK(products.onednn[0] ==
            doctest::Approx(256 * activation * static_cast<float>(code) * scale).epsilon(1e-4));
    }
  }
}

TEST_CASE("a worker's products may be computed by one thread after another") {
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  const RandomMatrix w(TileType::bf16, 256, 512, 4);
  runtime::InputRowsBuffer buffer;
  const InputRows x = buffer.reset(TileType::bf16, 24, 512, 128);
  std::mt19937_64 random(6);
  for (std::size_t r = 0; r < 24; ++r) x.fill(kernels, r, 0, 512, random_row(512, random).data());
  runtime::OneDnnProducts onednn(kernels, 1);
  std::array<std::vector<float>, 3> outs;
  for (auto& out : outs) {
    out.resize(std::size_t{24} * 256);
    std::thread([&] { onednn.multiply(w.matrix(), x, 0, 4, out.data(), 256, 0); }).join();
  }
  CHECK(same_bits(outs[0], outs[1]));
  CHECK(same_bits(outs[0], outs[2]));
}

TEST_CASE("oneDNN's bf16 products are as near as their activations' rounding allows") {
  const auto& kernels = runtime::kernels_for(runtime::detect_isa());
  // An activation is rounded to 8 bits; in f32 only sums are.
  const double relative = runtime::onednn_isa().bf16 ? 0x1p-8 : 0x1p-18;
  std::mt19937_64 random(5);
  for (const std::size_t rows : {8u, 9u, 15u, 16u, 17u, 25u, 31u, 40u, 100u, 530u}) {
    const RandomMatrix w(TileType::bf16, 64 * 5 - 3, 64 * (1 + random() % 12) - 7, random());
    runtime::InputRowsBuffer buffer;
    const InputRows x = buffer.reset(TileType::bf16, rows, w.layout.padded_cols, 128);
    for (std::size_t r = 0; r < rows; ++r)
      x.fill(kernels, r, 0, x.cols(), random_row(x.cols(), random).data());
    const std::size_t panels = 1 + random() % 4;
    const std::size_t stride = panels * 64 + 32 * (random() % 2);
    const auto products = both(w, x, 1, panels, stride);
    CAPTURE(rows);
    double worst = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t n = 0; n < panels * 64; ++n) {
        double size = 0;
        for (std::size_t c = 0; c < x.cols(); ++c)
          size += std::fabs(format::weight_at(w.layout, w.view(), 64 + n, c) * x.floats()[r * x.cols() + c]);
        const double error = std::fabs(products.own[r * stride + n] - products.onednn[r * stride + n]);
        worst = std::max(worst, size == 0 ? error : error / size);
      }
    }
    CHECK(worst < relative);
  }
}

TEST_CASE("bf16 tiles are what oneDNN's own reorder makes of a row-major matrix") {
  const std::size_t outputs = 192;
  const std::size_t inputs = 320;
  const RandomMatrix w(TileType::bf16, outputs, inputs, 9);
  std::vector<std::uint16_t> plain(inputs * outputs);  // [input][output]
  for (std::size_t n = 0; n < outputs; ++n) {
    for (std::size_t c = 0; c < inputs; ++c) {
      const float value = format::weight_at(w.layout, w.view(), n, c);
      std::uint32_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      plain[c * outputs + n] = static_cast<std::uint16_t>(bits >> 16);
    }
  }
  using dnnl::memory;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::dims dims = {static_cast<memory::dim>(inputs), static_cast<memory::dim>(outputs)};
  const memory::desc tiled(dims, memory::data_type::bf16, memory::format_tag::BA16a64b2a);
  std::vector<std::uint16_t> reordered(inputs * outputs);
  REQUIRE(tiled.get_size() == w.layout.total_bytes);
  memory from({dims, memory::data_type::bf16, memory::format_tag::ab}, engine, plain.data());
  memory to(tiled, engine, reordered.data());
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
  CHECK(std::memcmp(reordered.data(), w.matrix().data, w.layout.total_bytes) == 0);
}

TEST_CASE("the engine is chosen by type, rows and instruction set") {
  using runtime::uses_onednn;
  for (const TileType type : {TileType::bf16, TileType::q8, TileType::q6, TileType::q4}) {
    CHECK(!uses_onednn(MatmulEngine::own, type, 512, Isa::avx512));
    CHECK(uses_onednn(MatmulEngine::onednn, type, 8, Isa::avx2));
    CHECK(!uses_onednn(MatmulEngine::onednn, type, 7, Isa::avx512));
    CHECK(!uses_onednn(MatmulEngine::automatic, type, 512, Isa::generic));
  }
  CHECK(uses_onednn(MatmulEngine::automatic, TileType::bf16, 8, Isa::avx512) == runtime::onednn_isa().bf16);
  CHECK(uses_onednn(MatmulEngine::automatic, TileType::q4, 8, Isa::avx512) == runtime::onednn_isa().amx);
  for (const MatmulEngine engine : {MatmulEngine::own, MatmulEngine::automatic, MatmulEngine::onednn}) {
    CHECK(!uses_onednn(engine, TileType::mx4, 512, Isa::avx512));
    runtime::require_onednn(engine, TileType::mx4);
  }
  runtime::require_onednn(MatmulEngine::onednn, TileType::bf16);
  runtime::require_onednn(MatmulEngine::automatic, TileType::q4);
  if (runtime::onednn_isa().vnni)
    runtime::require_onednn(MatmulEngine::onednn, TileType::q4);
  else
    CHECK_THROWS_AS(runtime::require_onednn(MatmulEngine::onednn, TileType::q4), base::Error);
}

TEST_CASE("oneDNN starts no threads, and a session's logits are the same with either engine in q8 and q4") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 6);
  std::vector<runtime::TokenId> ids(100);
  std::mt19937_64 random(3);
  for (auto& id : ids) id = static_cast<runtime::TokenId>(random() % tests::kTinyVocab);
  for (const auto quant : {convert::Quant::bf16, convert::Quant::q8, convert::Quant::q4}) {
    CAPTURE(static_cast<int>(quant));
    if (quant != convert::Quant::bf16 && !runtime::onednn_isa().vnni) continue;
    const auto model = runtime::Model::open(tests::make_container(folder.path(), folder / "m.sluice", quant));
    const auto logits_of = [&](MatmulEngine engine) {
      runtime::SessionOptions options;
      options.thread_count = 2;
      options.context_tokens = 128;
      options.matmul = engine;
      runtime::Session session(model, options);
      const std::size_t threads = thread_count();
      const auto logits = session.feed(ids);
      CHECK(thread_count() == threads);
      CHECK(session.has_used_onednn() == (engine == MatmulEngine::onednn));
      return std::vector<float>(logits.begin(), logits.end());
    };
    const auto own = logits_of(MatmulEngine::own);
    const auto onednn = logits_of(MatmulEngine::onednn);
    if (quant != convert::Quant::bf16) CHECK(same_bits(own, onednn));
  }
}
