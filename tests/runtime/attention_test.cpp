// Attention over each type of keys and values, against plain sums in double precision, and over pages that a
// window leaves.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "format/mistral_params.h"
#include "runtime/kernels/isa.h"
#include "runtime/memory/kv_cache.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using runtime::DecoderShape;
using runtime::Isa;
using runtime::Kernels;
using runtime::KvCache;
using runtime::KvLayout;
using runtime::KvLimits;
using runtime::KvPool;
using runtime::KvType;
using runtime::ScoreRule;

namespace {

constexpr KvType kTypes[] = {KvType::f32, KvType::bf16, KvType::q8};

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all;
  for (const Isa isa : runtime::kIsas)
    if (runtime::is_supported(isa)) all.push_back(&runtime::kernels_for(isa));
  return all;
}

/// Keys and values [position][width] of one head, normally distributed; a few values stand out.
struct Head {
  Head(std::size_t positions, std::size_t width, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (auto* rows : {&keys, &values}) {
      rows->resize(positions, std::vector<float>(width));
      for (auto& row : *rows)
        for (float& x : row) x = normal(random) * (random() % 50 == 0 ? 8.0f : 1.0f);
    }
    query.resize(width);
    for (float& x : query) x = normal(random) * 0.2f;
  }
  std::vector<std::vector<float>> keys, values;
  std::vector<float> query;
};

void write(KvCache& cache, const Kernels& kernels, const Head& head, std::size_t position) {
  std::vector<float> key(cache.pool().head(1, 1).stride), value(cache.pool().head(1, 1).stride);
  std::ranges::copy(head.keys[position], key.begin());
  std::ranges::copy(head.values[position], value.begin());
  cache.write(kernels, 1, 1, position, key.data(), value.data());
}

/// A pool with room for one sequence, and that sequence's cache with pages for all of `positions`.
struct OneSequence {
  OneSequence(const DecoderShape& shape, const KvLimits& limits, KvType type)
      : OneSequence(KvLayout::make(shape, type).value(), limits) {}
  OneSequence(const KvLayout& layout, const KvLimits& limits)
      : pool(layout, layout.page_bytes() * layout.page_count_max(limits)), cache(pool, limits) {}
  KvPool pool;
  KvCache cache;
};

constexpr ScoreRule kPlain{.sinks = nullptr, .soft_cap = 0};

std::vector<float> attend(const KvCache& cache, const Kernels& kernels, const Head& head, std::size_t first,
                          std::size_t end, const ScoreRule& rule = kPlain) {
  std::vector<float> query(cache.pool().head(1, 1).stride), out(cache.pool().head(1, 1).stride);
  std::ranges::copy(head.query, query.begin());
  kernels.attend(query.data(), 1, cache.view(1, 1), first, end, rule, out.data());
  return out;
}

/// The value that a cache of this type keeps of `x`, whose row has the largest magnitude `most`.
double kept(KvType type, float x, float most) {
  if (type == KvType::f32) return x;
  if (type == KvType::bf16) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u;
    std::memcpy(&x, &bits, 4);
    return x;
  }
  return std::nearbyint(x * (127.0f / most)) * static_cast<double>(most / 127.0f);
}

std::vector<double> kept_row(KvType type, const std::vector<float>& row) {
  float most = 0;
  for (const float x : row) most = std::max(most, std::fabs(x));
  std::vector<double> result;
  for (const float x : row) result.push_back(kept(type, x, most));
  return result;
}

std::vector<double> slow_attention(KvType type, const Head& head, std::size_t first, std::size_t end,
                                   const ScoreRule& rule = kPlain) {
  std::vector<double> out(head.query.size());
  double sum = rule.sinks != nullptr ? std::exp(static_cast<double>(*rule.sinks)) : 0;
  for (std::size_t p = first; p < end; ++p) {
    const auto key = kept_row(type, head.keys[p]);
    const auto value = kept_row(type, head.values[p]);
    double score = 0;
    for (std::size_t i = 0; i < key.size(); ++i) score += head.query[i] * key[i];
    if (rule.soft_cap > 0) score = rule.soft_cap * std::tanh(score / rule.soft_cap);
    const double weight = std::exp(score);
    sum += weight;
    for (std::size_t i = 0; i < key.size(); ++i) out[i] += weight * value[i];
  }
  for (double& x : out) x /= sum;
  return out;
}

DecoderShape shape_of(std::uint64_t head_dim) {
  format::MistralParams params = tests::tiny_params();
  params.head_dim = head_dim;
  return runtime::require_supported(format::describe(params), "test");
}

}  // namespace

TEST_CASE("queries that share keys and values get the bits that each gets alone") {
  constexpr std::size_t kQueries = 7;
  const std::size_t head_dim = 40;
  for (const KvType type : kTypes) {
    for (const Kernels* kernels : all_kernels()) {
      CAPTURE(std::string(to_string(type)));
      CAPTURE(std::string(kernels->name));
      OneSequence sequence(shape_of(head_dim), {.context_tokens = 150, .step_tokens = 1}, type);
      KvCache& cache = sequence.cache;
      cache.reserve(0, 150);
      const Head kept(150, head_dim, 1);
      for (std::size_t p = 0; p < 150; ++p) write(cache, *kernels, kept, p);
      std::vector<float> queries, alone, sinks;
      for (std::size_t q = 0; q < kQueries; ++q) {
        const Head head(1, head_dim, 100 + q);
        queries.insert(queries.end(), head.query.begin(), head.query.end());
        queries.resize((q + 1) * cache.pool().head(1, 1).stride);
        sinks.push_back(static_cast<float>(q) * 0.5f);
        const auto result = attend(cache, *kernels, head, 5, 140, {&sinks.back(), 3});
        alone.insert(alone.end(), result.begin(), result.end());
      }
      for (std::size_t count = 1; count <= kQueries; ++count) {
        std::vector<float> together(count * cache.pool().head(1, 1).stride);
        kernels->attend(queries.data(), count, cache.view(1, 1), 5, 140, {sinks.data(), 3}, together.data());
        REQUIRE(std::ranges::equal(together, std::span(alone).first(together.size())));
      }
    }
  }
}

TEST_CASE(
    "attention is that of plain sums over what the cache keeps, the same bits on every instruction set") {
  for (const KvType type : kTypes) {
    for (const std::size_t head_dim : {6u, 16u, 40u, 128u}) {
      CAPTURE(std::string(to_string(type)));
      CAPTURE(head_dim);
      const Head head(150, head_dim, head_dim);
      std::vector<float> first_bits;
      for (const Kernels* kernels : all_kernels()) {
        CAPTURE(std::string(kernels->name));
        OneSequence sequence(shape_of(head_dim), {.context_tokens = 150, .step_tokens = 1}, type);
        KvCache& cache = sequence.cache;
        cache.reserve(0, 150);
        for (std::size_t p = 0; p < 150; ++p) write(cache, *kernels, head, p);
        std::vector<float> bits;
        for (const auto& [first, end] :
             {std::pair<std::size_t, std::size_t>{0, 1}, {0, 64}, {3, 65}, {70, 150}}) {
          // Sinks below, among and far above the scores, which reach 12.
          for (const float sink : {-30.0f, 2.0f, 25.0f}) {
            for (const ScoreRule& rule : {kPlain, {nullptr, 3}, {&sink, 0}, {&sink, 0.8f}}) {
              const auto found = attend(cache, *kernels, head, first, end, rule);
              const auto expected = slow_attention(type, head, first, end, rule);
              for (std::size_t i = 0; i < head_dim; ++i) REQUIRE(std::fabs(found[i] - expected[i]) < 2e-5);
              bits.insert(bits.end(), found.begin(), found.end());
            }
          }
        }
        if (first_bits.empty()) first_bits = bits;
        CHECK(std::memcmp(bits.data(), first_bits.data(), bits.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("a sink takes its share of the softmax and gives nothing for it; caps bend scores alone") {
  // Scores 1, -0.5 and 2, and values that show each position's weight.
  OneSequence sequence(shape_of(16), {.context_tokens = 3, .step_tokens = 3}, KvType::f32);
  sequence.cache.reserve(0, 3);
  Head head(3, 16, 1);
  head.query.assign(16, 0);
  head.query[0] = 1;
  const float scores[] = {1, -0.5f, 2};
  for (std::size_t p = 0; p < 3; ++p) {
    head.keys[p].assign(16, 0);
    head.keys[p][0] = scores[p];
    head.values[p].assign(16, 0);
    head.values[p][p] = 1;
  }
  const float sink = 0.7f;
  for (const Kernels* kernels : all_kernels()) {
    CAPTURE(std::string(kernels->name));
    for (std::size_t p = 0; p < 3; ++p) write(sequence.cache, *kernels, head, p);
    const auto weights = attend(sequence.cache, *kernels, head, 0, 3, {&sink, 0});
    CHECK(weights[0] == doctest::Approx(0.213573).epsilon(1e-5));
    CHECK(weights[1] == doctest::Approx(0.047655).epsilon(1e-5));
    CHECK(weights[2] == doctest::Approx(0.580553).epsilon(1e-5));
    CHECK(weights[0] + weights[1] + weights[2] == doctest::Approx(0.841781).epsilon(1e-5));
    // 1.5 tanh(score / 1.5) is 0.874174, -0.482269 and 1.305092; the sink stays 0.7.
    const auto capped = attend(sequence.cache, *kernels, head, 0, 3, {&sink, 1.5f});
    const double sum = std::exp(0.874174) + std::exp(-0.482269) + std::exp(1.305092) + std::exp(0.7);
    CHECK(capped[0] == doctest::Approx(std::exp(0.874174) / sum).epsilon(1e-5));
    CHECK(capped[1] == doctest::Approx(std::exp(-0.482269) / sum).epsilon(1e-5));
    CHECK(capped[2] == doctest::Approx(std::exp(1.305092) / sum).epsilon(1e-5));
  }
}

TEST_CASE(
    "a cache that gives back what its window has left gives the bits of one that keeps every position") {
  DecoderShape shape = shape_of(24);
  for (auto& layer : shape.layers) std::get<format::GroupedQueryAttention>(layer.mixer).window_tokens = 70;
  const Kernels& kernels = runtime::kernels_for(runtime::detect_isa());
  const Head head(400, 24, 8);
  for (const KvType type : kTypes) {
    const KvLimits limits{.context_tokens = 400, .step_tokens = 30};
    OneSequence windowed(shape, limits, type);
    OneSequence complete(shape, {.context_tokens = 400, .step_tokens = 30, .keep_positions = true}, type);
    KvCache& window = windowed.cache;
    KvCache& whole = complete.cache;
    CHECK(windowed.pool.page_count() == 3);  // 99 positions, which may begin at the end of a page
    CHECK(complete.pool.page_count() == 7);
    for (std::size_t chunk = 0; chunk < 390; chunk += 30) {
      window.reserve(chunk, chunk + 30);
      whole.reserve(chunk, chunk + 30);
      for (std::size_t p = chunk; p < chunk + 30; ++p) {
        write(window, kernels, head, p);
        write(whole, kernels, head, p);
      }
      for (std::size_t end = chunk + 1; end <= chunk + 30; ++end) {
        const std::size_t first = end > 70 ? end - 70 : 0;
        REQUIRE(attend(window, kernels, head, first, end) == attend(whole, kernels, head, first, end));
      }
    }
  }
}

TEST_CASE("beside a layer that keeps every position, a layer with a window keeps its window alone") {
  DecoderShape shape = shape_of(24);
  std::get<format::GroupedQueryAttention>(shape.layers[1].mixer).window_tokens = 70;
  const KvLimits limits{.context_tokens = 400, .step_tokens = 30};
  OneSequence mixed(shape, limits, KvType::bf16);
  OneSequence complete(shape, {.context_tokens = 400, .step_tokens = 30, .keep_positions = true},
                       KvType::bf16);
  CHECK(mixed.pool.page_count() == 7 + 3);
  CHECK(complete.pool.page_count() == 7 + 7);
  const Kernels& kernels = runtime::kernels_for(runtime::detect_isa());
  const Head head(400, 24, 8);
  for (std::size_t chunk = 0; chunk < 390; chunk += 30) {
    // Taken pages fit the pool, which has as many as the longest sequence needs.
    REQUIRE(mixed.cache.pages_needed(chunk, chunk + 30) <=
            static_cast<std::int64_t>(mixed.pool.free_page_count()));
    mixed.cache.reserve(chunk, chunk + 30);
    complete.cache.reserve(chunk, chunk + 30);
    for (std::size_t p = chunk; p < chunk + 30; ++p) {
      write(mixed.cache, kernels, head, p);
      write(complete.cache, kernels, head, p);
    }
    for (std::size_t end = chunk + 1; end <= chunk + 30; ++end) {
      const std::size_t first = end > 70 ? end - 70 : 0;
      REQUIRE(attend(mixed.cache, kernels, head, first, end) ==
              attend(complete.cache, kernels, head, first, end));
    }
  }
  // Positions 291 to 389 lie in pages 4 to 6 of the layer with the window, all of them in pages 0 to 6 of the
  // other. Position 325 sees positions from 256 on, where page 4 begins, and lies in page 5.
  CHECK_FALSE(mixed.cache.truncate(324));
  CHECK(mixed.pool.free_page_count() == 0);
  CHECK(mixed.cache.truncate(325));
  CHECK(mixed.pool.free_page_count() == 2);
  mixed.cache.clear();
  CHECK(mixed.pool.free_page_count() == 10);
}

TEST_CASE("q8 takes a byte an element and four a row; keys that are not finite stay visible") {
  const DecoderShape shape = shape_of(128);  // 2 layers, 2 key/value heads
  CHECK(KvLayout::make(shape, KvType::bf16)->page_bytes() == 2u * 2 * 2 * 64 * 256);
  CHECK(KvLayout::make(shape, KvType::q8)->page_bytes() == 2u * 2 * 2 * 64 * 132);
  const Kernels& kernels = runtime::kernels_for(runtime::detect_isa());
  OneSequence sequence(shape, {.context_tokens = 10, .step_tokens = 1}, KvType::q8);
  KvCache& cache = sequence.cache;
  cache.reserve(0, 2);
  Head head(2, 128, 1);
  head.keys[1][5] = NAN;
  write(cache, kernels, head, 0);
  write(cache, kernels, head, 1);
  CHECK(std::isnan(attend(cache, kernels, head, 0, 2)[0]));
}

TEST_CASE("pages are taken as positions come, and given back when a window leaves them or a sequence ends") {
  DecoderShape shape = shape_of(16);
  for (auto& layer : shape.layers) std::get<format::GroupedQueryAttention>(layer.mixer).window_tokens = 64;
  const KvLayout layout = KvLayout::make(shape, KvType::f32).value();
  KvPool pool(layout, 5 * layout.page_bytes() + layout.page_bytes() / 2);
  REQUIRE(pool.page_count() == 5);
  {
    KvCache kept(pool, {.context_tokens = 1000, .step_tokens = 10, .keep_positions = true});
    KvCache windowed(pool, {.context_tokens = 1000, .step_tokens = 10});
    CHECK(kept.pages_needed(0, 65) == 2);
    CHECK(windowed.pages_needed(0, 64) == 1);
    kept.reserve(0, 65);
    windowed.reserve(0, 64);
    CHECK(pool.free_page_count() == 2);
    windowed.reserve(64, 65);  // position 64 sees positions from 1 on
    CHECK(pool.free_page_count() == 1);
    CHECK(windowed.pages_needed(127, 128) == -1);  // position 127 sees from 64 on
    CHECK(windowed.pages_needed(127, 129) == 0);
    windowed.reserve(127, 129);
    CHECK(pool.free_page_count() == 1);
    kept.reserve(65, 128);
    CHECK(pool.free_page_count() == 1);
    kept.clear();
    CHECK(pool.free_page_count() == 3);
  }
  CHECK(pool.free_page_count() == 5);
}
