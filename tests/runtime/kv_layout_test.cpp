// Pages of keys and values: that they take the memory that docs/families.md states, whatever windows and head
// widths the layers have, and that no two heads share a byte.

#include "runtime/memory/kv_layout.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "runtime/memory/kv_cache.h"
#include "tests/support/families.h"

namespace sluice::runtime {
namespace {

using namespace format;

constexpr KvLimits k32k{.context_tokens = 32768, .step_tokens = 512};

DecoderShape shape_of(const ModelDescription& model) {
  DecoderShape shape;
  for (std::uint64_t i = 0; i < model.layer_count(); ++i) {
    shape.layers.emplace_back();
    shape.layers.back().mixer = model.layer(i).mixer;
  }
  return shape;
}

std::uint64_t row_bytes(std::uint64_t width, KvType type) {
  const std::uint64_t elements = base::align_up(width, 16);
  return type == KvType::f32 ? 4 * elements : type == KvType::bf16 ? 2 * elements : elements + 4;
}

/// A position's bytes in one layer, by docs/families.md.
std::uint64_t position_bytes(const Mixer& mixer, KvType type) {
  if (const auto* grouped = std::get_if<GroupedQueryAttention>(&mixer))
    return 2 * grouped->key_heads * row_bytes(grouped->head_dim, type);
  if (const auto* latent = std::get_if<LatentAttention>(&mixer))
    return row_bytes(latent->latent_rank, type) + row_bytes(latent->rope.rotary_dims, type);
  return 0;
}

/// The formula of docs/families.md.
std::uint64_t stated_bytes(const ModelDescription& model, KvType type, const KvLimits& limits) {
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < model.layer_count(); ++i) {
    const Mixer& mixer = model.layer(i).mixer;
    std::uint64_t pages = base::divide_up(limits.context_tokens, 64);
    const auto* grouped = std::get_if<GroupedQueryAttention>(&mixer);
    if (grouped != nullptr && grouped->window_tokens)
      pages = std::min(pages, base::divide_up(*grouped->window_tokens + limits.step_tokens - 2, 64) + 1);
    total += pages * 64 * position_bytes(mixer, type);
  }
  return total;
}

std::uint64_t bytes_of(const KvLayout& layout, const KvLimits& limits) {
  return layout.page_bytes() * layout.page_count_max(limits);
}

/// The numbers of docs/families.md, in MB, by model.
std::map<std::string, std::string> stated_sizes() {
  std::map<std::string, std::string> sizes;
  std::istringstream text(base::read_text_file(std::string(SLUICE_DOCS) + "/families.md"));
  bool inside = false;
  for (std::string line; std::getline(text, line);) {
    inside = line.starts_with("## ") ? line == "## Keys and values" : inside;
    std::istringstream words(line);
    std::string model, size, unit;
    if (inside && line.starts_with("    ") && words >> model >> size >> unit && unit == "MB")
      sizes[model] = size;
  }
  return sizes;
}

GroupedQueryAttention attention(std::uint64_t heads, std::uint64_t width,
                                std::optional<std::uint64_t> window = {}) {
  GroupedQueryAttention a;
  a.heads = a.key_heads = heads;
  a.head_dim = width;
  a.window_tokens = window;
  return a;
}

DecoderShape shape_of(const std::vector<Mixer>& mixers) {
  DecoderShape shape;
  for (const Mixer& mixer : mixers) {
    shape.layers.emplace_back();
    shape.layers.back().mixer = mixer;
  }
  return shape;
}

/// Every byte of keys, values and scales within its page, and none of them twice.
void check_places(const KvLayout& layout) {
  std::vector<std::vector<std::pair<std::size_t, std::size_t>>> extents(layout.windows().size());
  for (const KvLayout::Head& head : layout.heads()) {
    auto& of_table = extents.at(head.table);
    of_table.emplace_back(head.keys_offset_bytes, 64 * head.row_bytes);
    of_table.emplace_back(head.values_offset_bytes(), 64 * head.value_row_bytes);
    if (layout.type() != KvType::q8) continue;
    of_table.emplace_back(head.key_scales_offset_bytes, 256);
    of_table.emplace_back(head.value_scales_offset_bytes(), 256);
  }
  for (auto& of_table : extents) {
    REQUIRE_FALSE(of_table.empty());
    std::ranges::sort(of_table);
    std::size_t end = 0;
    for (const auto& [offset, size] : of_table) {
      CHECK(offset >= end);
      CHECK(offset % 16 == 0);
      end = offset + size;
    }
    CHECK(end <= layout.page_bytes());
  }
}

TEST_CASE("keys and values at 32k tokens take the memory that docs/families.md states") {
  auto stated = stated_sizes();
  for (const tests::Family& family : tests::families()) {
    CAPTURE(family.model);
    const ModelDescription& model = family.description;
    for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8}) {
      CAPTURE(to_string(type));
      const KvLayout layout = KvLayout::make(shape_of(model), type).value();
      check_places(layout);
      const std::uint64_t expected = stated_bytes(model, type, k32k);
      const std::uint64_t found = bytes_of(layout, k32k);
      if (type != KvType::q8) CHECK(found == expected);
      CHECK(found >= expected);
      CHECK(static_cast<double>(found) <= 1.01 * static_cast<double>(expected));
      const KvPool pool(layout, found);
      CHECK(pool.bytes() == found);
    }
    std::array<char, 32> size{};
    std::snprintf(size.data(), size.size(), "%.0f",
                  static_cast<double>(stated_bytes(model, KvType::bf16, k32k)) / 1e6);
    CHECK(stated[family.model] == std::string(size.data()));
    stated.erase(family.model);
  }
  CHECK(stated.empty());
}

TEST_CASE(
    "layers of one window share a page, and others have pages of the same size in tables of their own") {
  const auto make = [](const std::vector<Mixer>& mixers) {
    return KvLayout::make(shape_of(mixers), KvType::bf16).value();
  };
  const KvLayout one = make({attention(2, 64, 100), attention(3, 40, 100)});
  REQUIRE(one.windows().size() == 1);
  CHECK(one.windows()[0] == 100);
  CHECK(one.page_bytes() == 64 * 2 * 2 * (2 * 64 + 3 * 48));
  // Five heads of the layers with a window in pages as large as the other layer's one.
  const KvLayout two = make({attention(5, 64, 100), attention(1, 64)});
  REQUIRE(two.windows().size() == 6);
  CHECK(two.page_bytes() == 64 * 2 * 2 * 64);
  CHECK(two.head(1, 0).table == 0);
  CHECK_FALSE(two.windows()[0].has_value());
  CHECK(two.head(0, 4).table == 5);
  CHECK(two.windows()[5] == 100);
  // 16 pages for 1,000 positions; a window of 100 and a step of 30 touch at most 3.
  CHECK(two.page_count_max({.context_tokens = 1000, .step_tokens = 30}) == 16 + 5 * 3);
  CHECK(two.page_count_max({.context_tokens = 1000, .step_tokens = 30, .keep_positions = true}) == 6 * 16);
}

TEST_CASE("layers without positions take no memory, nor does a model of such layers alone") {
  const KvLayout some =
      KvLayout::make(shape_of({ShortConvolution{3}, attention(2, 64), GatedDeltaNet{1, 2, 8, 8, 4, {}}}),
                     KvType::bf16)
          .value();
  CHECK(some.page_bytes() == 64 * 2 * 2 * 2 * 64);
  CHECK(some.head(1, 1).table == 0);
  const KvLayout none = KvLayout::make(shape_of({ShortConvolution{3}}), KvType::bf16).value();
  CHECK(none.page_bytes() == 0);
  CHECK(none.windows().empty());
  CHECK(none.page_count_max(k32k) == 0);
  KvPool pool(none, 1000);
  CHECK(pool.page_count() == 0);
  KvCache cache(pool, k32k);
  CHECK(cache.pages_needed(0, 30000) == 0);
  cache.reserve(0, 30000);
  CHECK(cache.truncate(7));
  CHECK(cache.columns().empty());
}

TEST_CASE("any mixture of windows and head widths gets pages in which no two heads overlap") {
  std::uint64_t state = 1;
  const auto from = [&](std::uint64_t low, std::uint64_t high) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return low + (state >> 33) % (high - low + 1);
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<Mixer> mixers;
    const std::uint64_t windows = from(1, 12);
    for (std::uint64_t layer = 0, layers = from(1, 30); layer < layers; ++layer) {
      auto a = attention(from(1, 9), from(1, 300));
      if (const std::uint64_t window = from(0, windows); window != 0) a.window_tokens = 100 * window;
      mixers.emplace_back(a);
    }
    const auto shape = shape_of(mixers);
    const auto type = std::array{KvType::f32, KvType::bf16, KvType::q8}.at(from(0, 2));
    const KvLayout layout = KvLayout::make(shape, type).value();
    CAPTURE(round);
    check_places(layout);
    CHECK(layout.windows().size() <= 128);
    // With more than eight windows a layer may keep more than it sees, never less.
    for (std::size_t i = 0; i < mixers.size(); ++i) {
      const auto kept = layout.windows()[layout.head(i, 0).table];
      const auto seen = shape.layers[i].window_tokens();
      CHECK((!kept || (seen && *kept >= *seen)));
    }
    std::vector<std::optional<std::uint64_t>> different(layout.windows().begin(), layout.windows().end());
    different.erase(std::ranges::unique(different).begin(), different.end());
    CHECK(different.size() <= 8);
  }
}

TEST_CASE("heads whose bytes do not fit 63 bits have no layout") {
  std::vector<Mixer> mixers(1024, attention(std::uint64_t{1} << 20, std::uint64_t{1} << 20));
  std::get<GroupedQueryAttention>(mixers[0]).key_heads = std::uint64_t{1} << 34;
  CHECK_FALSE(KvLayout::make(shape_of(mixers), KvType::f32).has_value());
}

}  // namespace
}  // namespace sluice::runtime
