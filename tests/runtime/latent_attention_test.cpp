// Latent attention below the whole model: the kernel against plain sums in double precision over what the
// cache keeps, the transposed keys against the released matrix, and the size of the cache. families_test.cpp
// compares whole models with the expanded form.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "format/tile.h"
#include "runtime/forward/rope.h"
#include "runtime/kernels/isa.h"
#include "runtime/memory/kv_cache.h"
#include "runtime/memory/latent_keys.h"
#include "runtime/memory/model_impl.h"
#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/support/families.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using runtime::Isa;
using runtime::Kernels;
using runtime::KvCache;
using runtime::KvLayout;
using runtime::KvPool;
using runtime::KvType;

namespace {

constexpr std::size_t kPositions = 150;
constexpr KvType kTypes[] = {KvType::f32, KvType::bf16, KvType::q8};

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all;
  for (const Isa isa : runtime::kIsas)
    if (runtime::is_supported(isa)) all.push_back(&runtime::kernels_for(isa));
  return all;
}

/// One layer of latent attention with a dense feed-forward.
format::ModelDescription model_of(std::uint64_t latent_rank, std::uint64_t rotary_dims) {
  format::LatentAttention attention;
  attention.heads = 5;
  attention.latent_rank = latent_rank;
  attention.plain_dims = 40;
  attention.value_dims = 21;
  attention.rope.rotary_dims = rotary_dims;
  format::ModelDescription model;
  model.width = 72;
  model.vocabulary = tests::kTinyVocab;
  model.add_layers(1, {attention, {format::DenseFeedForward{100}, {}}});
  return model;
}

using Rows = std::vector<std::vector<float>>;

Rows random_rows(std::size_t count, std::size_t width, float deviation, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  Rows rows(count, std::vector<float>(width));
  for (auto& row : rows)
    for (float& x : row) x = normal(random) * (random() % 50 == 0 ? 6.0f : 1.0f);
  return rows;
}

/// Latents and rotary keys in a cache of their own.
struct Stored {
  Stored(std::size_t latent_rank, std::size_t rotary_dims, KvType type, const Kernels& kernels)
      : shape(runtime::require_supported(model_of(latent_rank, rotary_dims), "test")),
        layout(KvLayout::make(shape, type).value()),
        limits{.context_tokens = kPositions, .step_tokens = kPositions},
        pool(layout, layout.page_bytes() * layout.page_count_max(limits)),
        cache(pool, limits),
        latents(random_rows(kPositions, latent_rank, 1, 5)),
        // Another size than that of the latents, so that a scale of the wrong part shows.
        rotary(random_rows(kPositions, rotary_dims, 9, 6)) {
    cache.reserve(0, kPositions);
    for (std::size_t p = 0; p < kPositions; ++p) {
      auto latent = latents[p];
      auto key = rotary[p];
      latent.resize(pool.head(0, 0).stride);
      key.resize(pool.head(0, 0).value_stride);
      cache.write(kernels, 0, 0, p, latent.data(), key.data());
    }
  }

  /// The results [count][out_stride] of `queries`, each a latent part and a rotary part.
  std::vector<float> attend(const Kernels& kernels, const Rows& queries, std::size_t end,
                            std::size_t out_stride) const {
    const std::size_t stride = pool.head(0, 0).stride;
    const std::size_t width = stride + pool.head(0, 0).value_stride;
    std::vector<float> padded(queries.size() * width);
    for (std::size_t q = 0; q < queries.size(); ++q) {
      const auto middle = queries[q].begin() + static_cast<std::ptrdiff_t>(latents[0].size());
      std::copy(queries[q].begin(), middle, padded.begin() + static_cast<std::ptrdiff_t>(q * width));
      std::copy(middle, queries[q].end(), padded.begin() + static_cast<std::ptrdiff_t>(q * width + stride));
    }
    std::vector<float> out(queries.size() * out_stride, -1);
    kernels.attend_latents(padded.data(), queries.size(), cache.view(0, 0), end, out.data(), out_stride);
    return out;
  }

  runtime::DecoderShape shape;
  KvLayout layout;
  runtime::KvLimits limits;
  KvPool pool;
  KvCache cache;
  Rows latents;
  Rows rotary;
};

/// What a cache of this type keeps of a row.
std::vector<double> kept(KvType type, const std::vector<float>& row) {
  float most = 0;
  for (const float x : row) most = std::max(most, std::fabs(x));
  std::vector<double> result;
  for (const float x : row) {
    if (type == KvType::q8)
      result.push_back(std::nearbyint(x * (127.0f / most)) * static_cast<double>(most / 127.0f));
    else
      result.push_back(type == KvType::f32 ? x : format::bf16_to_f32(format::f32_to_bf16(x)));
  }
  return result;
}

std::vector<double> plain_sums(KvType type, const Stored& stored, const std::vector<float>& query,
                               std::size_t end) {
  const std::size_t rank = stored.latents[0].size();
  std::vector<double> out(rank);
  double sum = 0;
  for (std::size_t p = 0; p < end; ++p) {
    const auto latent = kept(type, stored.latents[p]);
    const auto rotary = kept(type, stored.rotary[p]);
    double score = 0;
    for (std::size_t i = 0; i < rank; ++i) score += query[i] * latent[i];
    for (std::size_t i = 0; i < rotary.size(); ++i) score += query[rank + i] * rotary[i];
    sum += std::exp(score);
    for (std::size_t i = 0; i < rank; ++i) out[i] += std::exp(score) * latent[i];
  }
  for (double& x : out) x /= sum;
  return out;
}

}  // namespace

TEST_CASE("attention over latents is that of plain sums, the same bits on every instruction set") {
  for (const KvType type : kTypes) {
    for (const auto& [rank, rotary] : {std::pair<std::size_t, std::size_t>{9, 2}, {64, 16}, {130, 40}}) {
      CAPTURE(std::string(to_string(type)));
      CAPTURE(rank);
      const Rows queries = random_rows(7, rank + rotary, 0.05f, 9);
      const std::size_t out_stride = 192;
      std::vector<float> first_bits;
      for (const Kernels* kernels : all_kernels()) {
        CAPTURE(std::string(kernels->name));
        const Stored stored(rank, rotary, type, *kernels);
        std::vector<float> bits;
        for (const std::size_t end : {1u, 63u, 64u, 65u, 150u}) {
          const auto found = stored.attend(*kernels, queries, end, out_stride);
          for (std::size_t q = 0; q < queries.size(); ++q) {
            const auto expected = plain_sums(type, stored, queries[q], end);
            for (std::size_t i = 0; i < rank; ++i)
              REQUIRE(std::fabs(found[q * out_stride + i] - expected[i]) < 3e-5);
            // Alone a query gets the bits that it gets beside others.
            const auto alone = stored.attend(*kernels, {queries[q]}, end, out_stride);
            REQUIRE(std::ranges::equal(std::span(found).subspan(q * out_stride, out_stride), alone));
          }
          bits.insert(bits.end(), found.begin(), found.end());
        }
        if (first_bits.empty()) first_bits = bits;
        CHECK(std::memcmp(bits.data(), first_bits.data(), bits.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("the keys of each head are the released rows, transposed, weight by weight") {
  for (const auto quant : {convert::Quant::bf16, convert::Quant::q8, convert::Quant::q4}) {
    CAPTURE(std::string(to_string(quant)));
    const tests::TempDir folder;
    const auto description = model_of(130, 6);
    const auto model = runtime::Model::open(tests::write_container(
        folder / "m.sluice", description, tests::random_weights(description, 3), quant));
    const auto& weights = std::get<runtime::LatentWeights>(model.impl().layers[0].mixer);
    const runtime::Matrix& released = weights.key_value.matrix;
    const base::Bytes bytes(released.data, released.layout.total_bytes);
    REQUIRE(weights.keys.heads.size() == 5);
    for (std::size_t h = 0; h < 5; ++h) {
      const runtime::Matrix& keys = weights.keys.heads[h];
      CHECK(keys.layout.rows == 130);
      CHECK(keys.layout.cols == 40);
      const base::Bytes of_head(keys.data, keys.layout.total_bytes);
      for (std::size_t i = 0; i < 40; ++i) {
        const float scale = weights.keys.input_scales[h * keys.layout.padded_cols + i];
        for (std::size_t k = 0; k < 130; ++k)
          REQUIRE(format::weight_at(keys.layout, of_head, k, i) * scale ==
                  format::weight_at(released.layout, bytes, h * 61 + i, k));
      }
    }
  }
}

TEST_CASE("the cache of latents takes the latent and the rotary key of a token and layer, and no more") {
  const auto bytes_of_token = [](const std::string& name, KvType type) {
    for (const tests::Family& family : tests::families())
      if (family.model == name)
        return KvLayout::make(runtime::require_supported(family.description, "m"), type)->page_bytes() /
               runtime::kKvPageTokens;
    FAIL("no such family");
    return std::uint64_t{0};
  };
  CHECK(bytes_of_token("DeepSeek-V2-Lite", KvType::bf16) == 27 * (512 + 64) * 2);
  CHECK(bytes_of_token("DeepSeek-V3", KvType::f32) == 61 * (512 + 64) * 4);
  CHECK(bytes_of_token("GLM-4.7-Flash", KvType::q8) == 47 * (512 + 64 + 2 * 4));
}

TEST_CASE("queries grow warmer with every original context that lies behind them") {
  const format::QueryTemperature temperature{0.1, 8192};
  CHECK(runtime::query_temperature({}, 100000) == 1);
  CHECK(runtime::query_temperature(temperature, 0) == 1);
  CHECK(runtime::query_temperature(temperature, 8191) == 1);
  CHECK(runtime::query_temperature(temperature, 8192) == static_cast<float>(1 + 0.1 * std::log(2)));
  CHECK(runtime::query_temperature(temperature, 3 * 8192 + 5) == static_cast<float>(1 + 0.1 * std::log(4)));
}

TEST_CASE("a cut prompt of latents goes on with the same bits") {
  const tests::TempDir folder;
  const auto description = model_of(70, 6);
  const auto model = runtime::Model::open(tests::write_container(
      folder / "m.sluice", description, tests::random_weights(description, 4), convert::Quant::q8));
  runtime::SessionOptions options;
  options.context_tokens = 100;
  std::vector<runtime::TokenId> ids;
  for (int i = 0; i < 90; ++i) ids.push_back(i * 7 % tests::kTinyVocab);
  runtime::Session whole(model, options);
  const auto expected = whole.feed(ids);
  runtime::Session cut(model, options);
  cut.feed(std::vector<runtime::TokenId>(80, 3));
  CHECK(cut.truncate(0) == 0);
  cut.feed(std::span(ids).first(85));
  CHECK(cut.truncate(66) == 66);
  const auto found = cut.feed(std::span(ids).subspan(66));
  CHECK(std::memcmp(found.data(), expected.data(), expected.size_bytes()) == 0);
}
