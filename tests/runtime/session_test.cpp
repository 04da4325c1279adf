// Properties of the forward pass over random models of many shapes.

#include <doctest/doctest.h>

#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/container_reader.h"
#include "runtime/kernels/isa.h"
#include "runtime/runtime.h"
#include "tests/runtime/logits.h"
#include "tests/runtime/slow_reference.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using runtime::Isa;
using runtime::Model;
using runtime::Session;
using runtime::SessionOptions;
using runtime::TokenId;
using tests::same_bits;

namespace {

struct Shape {
  const char* what;
  format::MistralParams params;
};

// Sizes that are and are not multiples of a tile, heads in all ratios, one expert a token, many experts.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  const auto add = [&](const char* what, auto change) {
    format::MistralParams p = tests::tiny_params();
    change(p);
    all.push_back({what, p});
  };
  add("as it is", [](auto&) {});
  add("16 experts", [](auto& p) { p.num_experts = 16; });
  add("one expert a token", [](auto& p) { p.num_experts_per_tok = 1; });
  add("all experts", [](auto& p) { p.num_experts_per_tok = p.num_experts; });
  add("odd sizes",
      [](auto& p) { p.dim = 72, p.hidden_dim = 100, p.head_dim = 6, p.n_heads = 6, p.n_kv_heads = 3; });
  add("wide heads", [](auto& p) { p.head_dim = 48, p.n_heads = 3, p.n_kv_heads = 1; });
  add("sliding window", [](auto& p) { p.sliding_window = 5; });
  add("dense and sliding window, as Mistral 7B", [](auto& p) {
    p.num_experts = p.num_experts_per_tok = 0;
    p.sliding_window = 5, p.rope_theta = 1e4;
  });
  add("dense", [](auto& p) { p.num_experts = p.num_experts_per_tok = 0; });
  return all;
}

std::vector<TokenId> random_tokens(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> ids{1};
  while (ids.size() < count) ids.push_back(static_cast<TokenId>(random() % tests::kTinyVocab));
  return ids;
}

/// Logits of all tokens, fed in pieces of `piece` tokens.
std::vector<float> logits_of(const Model& model, std::span<const TokenId> ids, unsigned threads,
                             std::size_t chunk, std::size_t piece, std::optional<Isa> isa = {},
                             runtime::MatmulEngine matmul = runtime::MatmulEngine::automatic) {
  Session session(model, {.thread_count = threads,
                          .context_tokens = 300,
                          .prefill_chunk_tokens = chunk,
                          .kv = {},
                          .isa = isa,
                          .matmul = matmul,
                          .stop = {},
                          .on_routing = {}});
  return tests::logits_of(session, ids, piece);
}

}  // namespace

TEST_CASE("bf16 logits are those of a plain implementation in double precision") {
  for (const Shape& shape : shapes()) {
    CAPTURE(std::string(shape.what));
    const tests::TempDir folder;
    const auto tensors = tests::make_tiny_tensors(shape.params, 3);
    tests::write_tiny_release(folder.path(), shape.params, tensors);
    const Model model =
        Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::bf16));
    const auto ids = random_tokens(20, 5);
    const auto found = logits_of(model, ids, 2, 7, 20);
    const auto expected =
        tests::SlowReference(format::describe(shape.params), tests::weights_of(tensors)).logits(ids);
    double worst = 0;
    for (std::size_t t = 0; t < ids.size(); ++t)
      for (std::size_t i = 0; i < tests::kTinyVocab; ++i)
        worst = std::max(worst,
                         std::fabs(static_cast<double>(found[t * tests::kTinyVocab + i]) - expected[t][i]));
    CHECK_MESSAGE(worst < 2e-4, "largest difference: " << worst);
  }
}

TEST_CASE("q8 and q4 logits are the same bits for any threads, chunks and feeding") {
  for (const Shape& shape : shapes()) {
    for (const auto quant : {convert::Quant::q8, convert::Quant::q4}) {
      CAPTURE(std::string(shape.what));
      CAPTURE(static_cast<int>(quant));
      const tests::TempDir folder;
      tests::write_tiny_release(folder.path(), shape.params, 9);
      const Model model = Model::open(tests::make_container(folder.path(), folder / "m.sluice", quant));
      // Long enough that experts get as many rows as are multiplied at once.
      const auto ids = random_tokens(90, 17);
      const auto expected = logits_of(model, ids, 1, 512, ids.size());
      for (const float value : expected) REQUIRE(std::isfinite(value));
      CHECK(same_bits(logits_of(model, ids, 2, 512, ids.size()), expected));
      CHECK(same_bits(logits_of(model, ids, 3, 33, ids.size()), expected));
      CHECK(same_bits(logits_of(model, ids, 2, 512, 1), expected));
      CHECK(same_bits(logits_of(model, ids, 1, 512, 37), expected));
    }
  }
}

TEST_CASE("the own kernels of every instruction set give the same bits") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  for (const auto quant : {convert::Quant::bf16, convert::Quant::q8, convert::Quant::q4}) {
    const Model model = Model::open(tests::make_container(folder.path(), folder / "m.sluice", quant));
    const auto ids = random_tokens(40, 2);
    const auto logits = [&](Isa isa) {
      return logits_of(model, ids, 2, 512, ids.size(), isa, runtime::MatmulEngine::own);
    };
    const auto expected = logits(Isa::generic);
    for (const Isa isa : runtime::kIsas) {
      if (isa == Isa::generic) continue;
      if (!runtime::is_supported(isa)) {
        MESSAGE("SKIPPED: this CPU has no " << runtime::to_string(isa));
        continue;
      }
      CAPTURE(runtime::to_string(isa));
      CHECK(same_bits(logits(isa), expected));
    }
  }
}

TEST_CASE("a session can be reset and used again") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const Model model =
      Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q4));
  SessionOptions options;
  options.context_tokens = 10;
  Session session(model, options);
  const auto ids = random_tokens(10, 2);
  const auto first = session.feed(ids);
  const std::vector<float> kept(first.begin(), first.end());
  CHECK(session.position() == 10);
  CHECK_ERROR(session.feed(std::span(ids).first(1)), ErrorKind::malformed, "do not fit the context of 10");
  session.reset();
  const auto second = session.feed(ids);
  CHECK(same_bits(kept, {second.begin(), second.end()}));
  session.reset();
  CHECK_ERROR(session.feed(std::vector<TokenId>{1, 2048}), ErrorKind::malformed, "outside the vocabulary");
  CHECK_ERROR(session.feed(std::vector<TokenId>{-1}), ErrorKind::malformed, "outside the vocabulary");
}

TEST_CASE("a session that forgets its last tokens goes on as one that never had them") {
  for (const bool window : {false, true}) {
    CAPTURE(window);
    const tests::TempDir folder;
    auto params = tests::tiny_params();
    if (window) params.sliding_window = 5;
    tests::write_tiny_release(folder.path(), params, 3);
    const Model model =
        Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q4));
    const auto first = random_tokens(140, 1);
    auto second = first;
    second.resize(130);
    const auto others = random_tokens(9, 2);
    second.insert(second.end(), others.begin(), others.end());

    SessionOptions options;
    options.context_tokens = 300;
    const auto feed = [](Session& one, std::span<const TokenId> ids) {
      const auto logits = one.feed(ids);
      return std::vector<float>(logits.begin(), logits.end());
    };
    Session fresh(model, options);
    const std::vector<float> expected = feed(fresh, second);
    Session session(model, options);
    static_cast<void>(session.feed(first));
    CHECK(session.truncate(130) == 130);
    CHECK(session.position() == 130);
    CHECK(same_bits(expected, feed(session, std::span(second).subspan(130))));
    // Position 129 saw the last five positions alone, so the first page is gone with the window.
    CHECK(session.truncate(10) == (window ? 0 : 10));
    const auto rest = std::span(second).subspan(static_cast<std::size_t>(session.position()));
    CHECK(same_bits(expected, feed(session, rest)));
    CHECK(session.truncate(0) == 0);
    CHECK(session.engine().kv_pages().free == session.engine().kv_pages().total);
  }
}

TEST_CASE("a session stops by the token that it was given last") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 3);
  const Model model =
      Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q4));
  std::stop_source first;
  SessionOptions options;
  options.stop = first.get_token();
  Session session(model, options);
  first.request_stop();
  CHECK_ERROR(session.feed(random_tokens(3, 1)), ErrorKind::interrupted, "interrupted");
  const std::stop_source second;
  session.set_stop(second.get_token());
  static_cast<void>(session.feed(random_tokens(3, 1)));
  CHECK(session.position() == 3);
}

TEST_CASE("a damaged expert is found when it is first used, and named") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const auto path = tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q4);
  const auto container = format::ContainerReader::open(path);
  const auto* tensor = container.find("layers.1.feed_forward.experts.2.w3.weight");
  REQUIRE(tensor != nullptr);
  auto content = base::read_file(path);
  content[static_cast<std::size_t>(tensor->offset_bytes) + 100] ^= std::byte{4};
  base::write_file(folder / "damaged.sluice", content);
  const Model model = Model::open(folder / "damaged.sluice");
  CHECK_ERROR(logits_of(model, random_tokens(60, 1), 2, 512, 60), ErrorKind::verification,
              "layers.1.feed_forward.experts.2.w3.weight");
}

TEST_CASE("routing is reported for every token and layer, weights falling and adding up to one") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const Model model =
      Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q8));
  std::vector<int> seen(2 * 12);
  SessionOptions options;
  options.on_routing = [&](const runtime::RoutingEvent& event) {
    ++seen[event.position * 2 + event.layer];
    REQUIRE(event.experts.size() == 2);
    CHECK(event.experts[0] != event.experts[1]);
    CHECK(event.weights[0] >= event.weights[1]);
    CHECK(event.weights[0] + event.weights[1] == doctest::Approx(1.0f));
  };
  Session session(model, options);
  session.feed(random_tokens(12, 3));
  CHECK(seen == std::vector<int>(24, 1));
}

TEST_CASE("a context whose keys and values cannot fit is refused with the numbers") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const Model model =
      Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q8));
  SessionOptions options;
  // Also sizes whose product does not fit 64 bits.
  for (const std::uint64_t context : {std::uint64_t{1} << 36, std::uint64_t{1} << 55, ~std::uint64_t{0}}) {
    options.context_tokens = context;
    CHECK_ERROR(Session(model, options), ErrorKind::usage, "tokens needs");
  }
}

TEST_CASE("a stop request ends a long prompt between two layers") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const Model model =
      Model::open(tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::q8));
  std::stop_source stop;
  SessionOptions options;
  options.stop = stop.get_token();
  options.on_routing = [&](const runtime::RoutingEvent& event) {
    if (event.layer == 0 && event.position == 3) stop.request_stop();
  };
  Session session(model, options);
  CHECK_ERROR(session.feed(random_tokens(8, 1)), ErrorKind::interrupted, "interrupted");
  session.reset();
  const auto generation = runtime::generate(
      session, model, random_tokens(8, 1), 5, {}, [](TokenId, std::string_view) {}, stop.get_token());
  CHECK(generation.stop == runtime::StopReason::interrupt);
  CHECK(generation.ids.empty());
}
