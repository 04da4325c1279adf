// Models that do not fit into memory: what is kept, what is read, and that the logits stay the same bits.

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/file.h"
#include "format/mistral_params.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/memory/expert_cache.h"
#include "runtime/memory/expert_extent.h"
#include "runtime/memory/residency.h"
#include "tests/runtime/described_model.h"
#include "tests/runtime/logits.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using runtime::ExpertCache;
using runtime::ExpertExtent;
using runtime::ExpertMatrix;
using runtime::Model;
using runtime::Session;
using runtime::SessionOptions;
using runtime::TokenId;
using tests::logits_of;
using tests::same_bits;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::vector<TokenId> random_tokens(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> ids{1};
  while (ids.size() < count) ids.push_back(static_cast<TokenId>(random() % tests::kTinyVocab));
  return ids;
}

/// A tiny model on disk; its sizes may be changed.
struct Converted {
  explicit Converted(convert::Quant quant = convert::Quant::q4,
                     format::MistralParams params = tests::tiny_params()) {
    tests::write_tiny_release(dir.path(), params, 4);
    path = tests::make_container(dir.path(), dir / "m.sluice", quant);
  }
  tests::TempDir dir;
  std::filesystem::path path;
};

/// A session that holds `slots` experts.
Session streaming(const Model& model, std::size_t slots, SessionOptions options = {}) {
  options.context_tokens = 300;
  Session session(model, options);
  session.engine().impl().weights.stream(slots);
  return session;
}

}  // namespace

namespace {

/// With the pieces that it is said to need, each byte of a panel is there, and the whole bias.
void check_needed_pieces(const ExpertExtent& run, ExpertMatrix which) {
  const runtime::Matrix whole = run.matrix_in(nullptr, which);
  const auto begin = reinterpret_cast<std::uintptr_t>(whole.data);
  const auto bias = reinterpret_cast<std::uintptr_t>(whole.bias);
  for (std::size_t panels = 1; panels <= whole.layout.panels; ++panels) {
    std::vector<bool> there(run.length_bytes() / base::kPageBytes);
    for (std::size_t i = 0; i < run.pieces_for(which, panels); ++i)
      for (auto at = run.pieces()[i].begin_bytes; at < run.pieces()[i].end_bytes; at += base::kPageBytes)
        there[at / base::kPageBytes] = true;
    const auto has = [&](std::uint64_t first, std::uint64_t end) {
      for (auto at = first; at < end; ++at)
        if (!there[at / base::kPageBytes]) return false;
      return true;
    };
    CHECK(has(begin, begin + panels * whole.layout.panel_code_bytes));
    CHECK(has(begin + whole.layout.panels * whole.layout.panel_code_bytes, begin + whole.layout.total_bytes));
    if (whole.bias != nullptr) CHECK(has(bias, bias + whole.layout.rows * sizeof(float)));
  }
  CHECK((run.pieces_for(which, whole.layout.panels) <= run.first_down_piece()) ==
        (which != ExpertMatrix::down));
}

void check_pieces(const Model& model, std::size_t layer, std::size_t expert) {
  const auto& container = model.impl().container;
  const ExpertExtent run(model.impl().layers[layer].experts[expert], container.bytes().data(), 8192);
  const auto& entry = container.experts()[layer * model.impl().shape.layers[layer].experts + expert];
  CHECK(run.offset_bytes() == entry.offset_bytes);
  CHECK(run.length_bytes() == base::align_up(entry.length_bytes, base::kPageBytes));
  std::vector<int> seen(run.length_bytes() / base::kPageBytes);
  for (const auto& piece : run.pieces()) {
    CHECK(piece.begin_bytes < piece.end_bytes);
    CHECK(piece.begin_bytes % base::kPageBytes == 0);
    CHECK(piece.end_bytes % base::kPageBytes == 0);
    for (std::uint64_t at = piece.begin_bytes; at < piece.end_bytes; at += base::kPageBytes)
      ++seen[at / base::kPageBytes];
  }
  CHECK(seen == std::vector<int>(seen.size(), 1));
  for (const ExpertMatrix which : {ExpertMatrix::gate, ExpertMatrix::up, ExpertMatrix::down})
    check_needed_pieces(run, which);
}

}  // namespace

TEST_CASE("the pieces of an expert cover every byte of it once, in pages, and come in the order of use") {
  for (const auto quant : {convert::Quant::bf16, convert::Quant::q8, convert::Quant::q4}) {
    for (const std::uint64_t hidden : {100u, 128u, 1000u}) {
      CAPTURE(static_cast<int>(quant));
      CAPTURE(hidden);
      auto params = tests::tiny_params();
      params.hidden_dim = hidden;
      const Converted converted(quant, params);
      check_pieces(Model::open(converted.path), 1, 2);
      // Biases are read with their expert.
      const tests::TempDir folder;
      auto description = describe(params);
      description.layer_kinds[0].feed_forward.mixture->expert_biases = true;
      check_pieces(Model::open(tests::write_container(folder / "m.sluice", description,
                                                      tests::random_weights(description, 4), quant)),
                   1, 2);
    }
  }
}

TEST_CASE("what fits is mapped; else there are as many experts as the memory holds, or none") {
  const runtime::MemoryNeeds needs{.expert_count = 32,
                                   .expert_bytes = 100 * kMiB,
                                   .experts_bytes = 3200 * kMiB,
                                   .pinned_bytes = 300 * kMiB,
                                   .other_bytes = 100 * kMiB};
  const auto slots = [&](std::uint64_t mib) {
    return runtime::plan_residency(needs, mib * kMiB).expert_slots;
  };
  CHECK(slots(1u << 20) == 0);
  CHECK(slots(3840) == 0);  // 3600 without the kernel's share
  CHECK(slots(3839) == 31);
  CHECK(slots(1600) == 11);  // 1500 - 400
  CHECK(slots(640) == 2);
  CHECK(slots(639) == 0);
  CHECK(slots(0) == 0);
  const auto too_low = [&](std::uint64_t mib) { return runtime::plan_residency(needs, mib * kMiB).too_low; };
  CHECK_FALSE(too_low(3840));
  CHECK_FALSE(too_low(640));
  CHECK(too_low(639));
  CHECK(too_low(0));
}

TEST_CASE("logits are the same bits when experts are read as they are needed") {
  for (const std::uint64_t per_token : {1u, 2u, 4u}) {
    for (const auto quant : {convert::Quant::bf16, convert::Quant::q8, convert::Quant::q4}) {
      CAPTURE(per_token);
      CAPTURE(static_cast<int>(quant));
      auto params = tests::tiny_params();
      params.num_experts_per_tok = per_token;
      params.hidden_dim = 200;
      const Converted converted(quant, params);
      const Model model = Model::open(converted.path);
      const auto ids = random_tokens(60, 17);
      for (const std::size_t piece : {std::size_t{1}, std::size_t{60}}) {
        SessionOptions options;
        options.context_tokens = 300;
        Session mapped(model, options);
        const auto expected = logits_of(mapped, ids, piece);
        CHECK_FALSE(mapped.residency_stats().streams);
        for (const std::size_t slots : {2u, 3u, 5u, 8u}) {
          for (const unsigned threads : {1u, 3u}) {
            CAPTURE(slots);
            options.thread_count = threads;
            Session session = streaming(model, slots, options);
            CHECK(same_bits(logits_of(session, ids, piece), expected));
            const auto stats = session.residency_stats();
            CHECK(stats.streams);
            CHECK(stats.experts_held == slots);
            CHECK(stats.misses >= std::min<std::size_t>(slots, 2));
            CHECK(stats.bytes_read >= stats.misses * 4096);
          }
        }
      }
    }
  }
}

TEST_CASE("layers that come round in a cycle miss what does not fit, and not more") {
  auto params = tests::tiny_params();
  params.n_layers = 4;
  params.num_experts_per_tok = params.num_experts;  // each pass needs all 16
  const Converted converted(convert::Quant::q4, params);
  const Model model = Model::open(converted.path);
  for (const std::size_t slots : {8u, 12u, 15u, 16u}) {
    CAPTURE(slots);
    Session session = streaming(model, slots);
    session.feed(random_tokens(4, 1));
    const auto before = session.residency_stats();
    constexpr std::uint64_t kPasses = 20;
    for (const TokenId id : random_tokens(kPasses, 2)) session.feed(std::span(&id, 1));
    const auto after = session.residency_stats();
    CHECK(after.hits + after.misses - before.hits - before.misses == kPasses * 16);
    CHECK(after.misses - before.misses >= kPasses * (16 - slots));
    // A group of four computes while the next one is read: their places hold nothing that lasts.
    CHECK(after.misses - before.misses <=
          kPasses * std::min<std::uint64_t>(16 - slots + 4, (16 - slots) * 4));
  }
}

TEST_CASE("a damaged expert is found when it is read, and named; verify off takes it") {
  const Converted converted;
  const auto container = format::ContainerReader::open(converted.path);
  const auto* tensor = container.find("layers.1.feed_forward.experts.2.w3.weight");
  REQUIRE(tensor != nullptr);
  {
    base::File file = base::File::open_update(converted.path);
    std::byte byte{};
    file.read_exact_at(tensor->offset_bytes + 100, {&byte, 1});
    byte ^= std::byte{4};
    file.write_at(tensor->offset_bytes + 100, {&byte, 1});
    file.sync();
  }
  const Model model = Model::open(converted.path);
  Session session = streaming(model, 3);
  CHECK_ERROR(session.feed(random_tokens(60, 1)), ErrorKind::verification,
              "layers.1.feed_forward.experts.2.w3.weight");
  const Model careless = Model::open(converted.path, {.verify = runtime::Verify::off});
  Session unproven = streaming(careless, 3);
  CHECK(unproven.feed(random_tokens(60, 1)).size() == tests::kTinyVocab);
}

TEST_CASE("every expert is proven once, however often it is read") {
  const Converted converted;
  const Model model = Model::open(converted.path);
  Session session = streaming(model, 2);
  session.feed(random_tokens(100, 1));
  session.feed(random_tokens(100, 2));
  CHECK(session.residency_stats().misses > 8);
  CHECK(model.proof_stats().experts_proven == 8);
}

TEST_CASE("a file that is cut while it is used is an error that names the place") {
  const Converted converted;
  const Model model = Model::open(converted.path);
  SUBCASE("streamed") {
    Session session = streaming(model, 2);
    session.feed(random_tokens(10, 1));
    const auto& first = model.impl().container.experts().front();
    base::File::open_update(converted.path).resize(first.offset_bytes + 5000);
    for (int again = 0; again < 2; ++again) {  // an error stays one
      session.reset();
      CHECK_ERROR(session.feed(random_tokens(10, 2)), ErrorKind::io, "m.sluice: ends at byte");
    }
  }
  SUBCASE("mapped") {
    SessionOptions options;
    options.context_tokens = 100;
    Session session(model, options);
    session.feed(random_tokens(10, 1));
    base::File::open_update(converted.path).resize(4096);
    CHECK_ERROR(session.feed(random_tokens(10, 2)), ErrorKind::io, "can no longer be read");
    session.reset();
    CHECK_ERROR(session.feed(random_tokens(10, 2)), ErrorKind::io, "m.sluice: byte ");
  }
  SUBCASE("mapped, and not proven yet") {
    Session session(model, {});
    base::File::open_update(converted.path).resize(4096);
    CHECK_ERROR(session.feed(random_tokens(10, 2)), ErrorKind::io, "m.sluice: byte ");
  }
}

TEST_CASE("a file that was replaced is not streamed from") {
  const Converted converted;
  const Model model = Model::open(converted.path);
  base::write_file(converted.path, base::read_file(converted.path));
  CHECK_ERROR(ExpertCache(model.impl(), 2), ErrorKind::io, "was changed since it was opened");
}

TEST_CASE("after an interrupt a streaming session goes on with the same bits") {
  const Converted converted;
  const Model model = Model::open(converted.path);
  const auto ids = random_tokens(20, 3);
  int events = 0;
  int end_at = -1;
  SessionOptions options;
  options.on_routing = [&](const runtime::RoutingEvent&) {
    if (++events == end_at) throw base::Error(ErrorKind::interrupted, "in the middle");
  };
  Session session = streaming(model, 3, options);
  const auto expected = logits_of(session, ids, 20);
  for (const int at : {1, 20, 21, 30}) {
    session.reset();
    events = 0;
    end_at = at;
    CHECK_ERROR(session.feed(ids), ErrorKind::interrupted, "in the middle");
    session.reset();
    end_at = -1;
    CHECK(same_bits(logits_of(session, ids, 20), expected));
  }
}
