// Models of random descriptions, which mix the mechanisms of all families: close to a plain implementation in
// double precision, and the same bits on every instruction set and with experts that are read when needed.
// batch_test.cpp and same_tokens_test.cpp have the other seams.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/model_description.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/runtime/logits.h"
#include "tests/runtime/slow_reference.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using runtime::Model;
using runtime::RoutingEvent;
using runtime::Session;
using runtime::SessionOptions;
using runtime::TokenId;

namespace {

std::vector<TokenId> random_tokens(std::size_t count, std::mt19937_64& random) {
  std::vector<TokenId> ids;
  while (ids.size() < count) ids.push_back(static_cast<TokenId>(random() % tests::kTinyVocab));
  return ids;
}

struct Routed {
  std::vector<std::uint32_t> experts;
  std::vector<float> weights;
};

void compare(const tests::SlowReference::Experts& expected, const Routed& found) {
  REQUIRE(found.experts.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(found.experts[i] == expected[i].first);
    CHECK(static_cast<double>(found.weights[i]) == doctest::Approx(expected[i].second).epsilon(1e-3));
  }
}

}  // namespace

TEST_CASE("bf16 logits and experts of any description are those of a plain implementation in double") {
  std::mt19937_64 random(3);
  int compared = 0;
  for (int round = 0; round < 40; ++round) {
    const tests::TempDir folder;
    const auto description = tests::random_description(random);
    const auto weights = tests::random_weights(description, random());
    CAPTURE(round);
    CAPTURE(to_json(description).dump());
    tests::SlowReference reference(description, weights);
    const auto ids = random_tokens(50, random);
    const auto expected = reference.logits(ids);
    // Two experts that are nearly equal may change places by rounding; such a round says nothing.
    if (reference.least_margin() < 2e-6) continue;
    ++compared;

    const Model model =
        Model::open(tests::write_container(folder / "m.sluice", description, weights, convert::Quant::bf16));
    std::map<std::pair<std::size_t, std::size_t>, Routed> routing;
    SessionOptions options;
    options.thread_count = 2;
    options.context_tokens = 60;
    options.prefill_chunk_tokens = 17;
    options.matmul = runtime::MatmulEngine::own;
    options.on_routing = [&](const RoutingEvent& event) {
      routing[{event.layer, event.position}] = {{event.experts.begin(), event.experts.end()},
                                                {event.weights.begin(), event.weights.end()}};
    };
    Session session(model, options);
    const auto found = tests::logits_of(session, ids, ids.size());
    double worst = 0;
    double largest = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t i = 0; i < description.vocabulary; ++i) {
        const double difference =
            std::fabs(static_cast<double>(found[t * description.vocabulary + i]) - expected[t][i]);
        worst = std::max(worst, difference);
        largest = std::max(largest, std::fabs(expected[t][i]));
      }
    }
    CHECK_MESSAGE(worst < 1e-4 * largest, "largest difference: " << worst << " of " << largest);
    REQUIRE(routing.size() == reference.routing().size());
    for (const auto& [at, experts] : reference.routing()) compare(experts, routing.at(at));
  }
  CHECK(compared >= 25);
}

TEST_CASE("every instruction set and an expert cache give the same bits for any description") {
  std::mt19937_64 random(29);
  for (int round = 0; round < 12; ++round) {
    const tests::TempDir folder;
    const auto description = tests::random_description(random);
    CAPTURE(round);
    CAPTURE(to_json(description).dump());
    const auto quant = std::array{convert::Quant::q4, convert::Quant::q8,
                                  convert::Quant::bf16}[static_cast<std::size_t>(round % 3)];
    const Model model = Model::open(tests::write_container(
        folder / "m.sluice", description, tests::random_weights(description, random()), quant));
    const auto ids = random_tokens(30, random);
    SessionOptions options;
    options.context_tokens = 60;
    options.thread_count = 2;
    options.matmul = runtime::MatmulEngine::own;
    Session first(model, options);
    const auto expected = tests::logits_of(first, ids, ids.size());
    for (const float logit : expected) REQUIRE(std::isfinite(logit));
    for (const runtime::Isa isa : runtime::kIsas) {
      if (!runtime::is_supported(isa)) continue;
      options.isa = isa;
      Session session(model, options);
      CHECK(tests::same_bits(tests::logits_of(session, ids, ids.size()), expected));
    }
    options.isa.reset();
    for (const std::size_t slots : {2u, 5u}) {
      Session streaming(model, options);
      streaming.engine().impl().weights.stream(slots);
      CHECK(tests::same_bits(tests::logits_of(streaming, ids, 11), expected));
    }
  }
}

TEST_CASE("layers of different windows and head widths give the bits of a run that keeps every position") {
  std::mt19937_64 random(31);
  format::ModelDescription model;
  model.width = 72;
  model.vocabulary = tests::kTinyVocab;
  format::GroupedQueryAttention attention;
  attention.heads = 4;
  attention.key_heads = 2;
  attention.head_dim = 24;
  attention.rope = format::Rope{format::RopeStyle::half_split, 24, 1e4, {}};
  auto wide = attention;
  wide.heads = wide.key_heads = 1;
  wide.head_dim = 60;
  wide.rope->rotary_dims = 60;
  attention.window_tokens = 20;
  model.add_layers(2, {attention, {format::DenseFeedForward{100}, {}}});
  model.add_layers(1, {wide, {format::DenseFeedForward{100}, {}}});
  const tests::TempDir folder;
  const Model opened = Model::open(tests::write_container(
      folder / "m.sluice", model, tests::random_weights(model, 5), convert::Quant::q4));
  const auto ids = random_tokens(400, random);
  SessionOptions options;
  options.context_tokens = 400;
  options.prefill_chunk_tokens = 50;
  options.keep_positions = true;
  Session complete(opened, options);
  const auto expected = tests::logits_of(complete, ids, ids.size());
  options.keep_positions = false;
  Session session(opened, options);
  const auto pages = session.engine().kv_pages();
  // 7 pages for 400 positions, 3 for 20 and a step of 50; strides are 32 and 64, with bf16 and q4 weights.
  CHECK(pages.total * pages.page_bytes == 64 * 2 * 2 * (7 * 64 + 3 * 2 * 2 * 32));
  CHECK(tests::same_bits(tests::logits_of(session, ids, 50), expected));
  // The last step touched two pages of each of the two tables of the layers with a window.
  CHECK(session.engine().kv_pages().free == 2);
  // Position 384 sees positions from 365 on, which are held; position 300 sees some that are not.
  CHECK(session.truncate(390) == 390);
  const auto again = session.feed(std::span(ids).subspan(390));
  CHECK(std::ranges::equal(again, std::span(expected).last(again.size())));
  CHECK(session.truncate(300) == 0);
  CHECK(session.engine().kv_pages().free == pages.total);
}

namespace {

/// A dense layer, then two of 128 experts with a shared one, of which a token uses 4; tied embeddings.
format::ModelDescription with_dense_layer() {
  format::GroupedQueryAttention attention;
  attention.heads = 4;
  attention.key_heads = 2;
  attention.head_dim = 24;
  attention.rope = format::Rope{format::RopeStyle::half_split, 24, 1e4, {}};
  format::Mixture mixture;
  mixture.experts = 128;
  mixture.experts_per_token = 4;
  mixture.width = 40;
  mixture.shared = format::SharedExpert{100, true};
  format::ModelDescription model;
  model.width = 72;
  model.vocabulary = tests::kTinyVocab;
  model.tied_embeddings = true;
  model.add_layers(1, {attention, {format::DenseFeedForward{200}, {}}});
  model.add_layers(2, {attention, {{}, mixture}});
  return model;
}

Model open_with_dense_layer(const tests::TempDir& folder, convert::Quant quant) {
  const auto description = with_dense_layer();
  return Model::open(tests::write_container(folder / (std::string(to_string(quant)) + ".sluice"), description,
                                            tests::random_weights(description, 8), quant));
}

constexpr const char* kText =
    "Once upon a time there was a little girl who had a red ball. She threw it over the wall, and it did not "
    "come back. So she climbed the wall and looked, and there sat a dog with the ball in its mouth.";

}  // namespace

TEST_CASE("calibration has the statistics of each layer's own experts, also of those that no token chose") {
  const tests::TempDir folder;
  const Model model = open_with_dense_layer(folder, convert::Quant::q8);
  runtime::Calibrator calibrator(model, kText,
                                 {.thread_count = 2, .context_tokens = 20, .isa = {}, .stop = {}});
  CHECK(calibrator.tokens() == calibrator.tokens_total());
  for (const std::size_t layer : {0u, 1u, 2u}) {
    const format::LayerStatistics statistics = calibrator.next_layer();
    CHECK(statistics.layer == layer);
    REQUIRE(statistics.experts.size() == (layer == 0 ? 1 : 128));
    std::uint64_t tokens = 0;
    bool starved = false;
    for (const auto& expert : statistics.experts) {
      tokens += expert.tokens;
      starved = starved || expert.tokens == 0;
      CHECK(expert.up.inputs == 128);  // 72, padded to tiles
      CHECK(expert.down.inputs == (layer == 0 ? 256 : 64));
      const bool all_zero = std::ranges::all_of(expert.down.sums, [](float sum) { return sum == 0; });
      CHECK(all_zero == (expert.tokens == 0));
    }
    CHECK(tokens == calibrator.tokens() * (layer == 0 ? 1 : 4));
    CHECK(starved == (layer > 0));
  }
}

TEST_CASE("evaluation counts the agreement of layers with experts alone") {
  const tests::TempDir folder;
  const Model bf16 = open_with_dense_layer(folder, convert::Quant::bf16);
  const Model q4 = open_with_dense_layer(folder, convert::Quant::q4);
  SessionOptions options;
  options.context_tokens = 30;
  const auto result = runtime::evaluate(q4, &bf16, kText, options, [](std::uint64_t, std::uint64_t) {}, {});
  REQUIRE(result.routing_agreement_by_layer.size() == 3);
  CHECK(result.routing_agreement_by_layer[0] == 1);
  CHECK(result.routing_agreement_by_layer[1] < 1);
  CHECK(*result.routing_agreement ==
        doctest::Approx((result.routing_agreement_by_layer[1] + result.routing_agreement_by_layer[2]) / 2));
}

TEST_CASE("a token's cost has shared experts, dense layers and a tied head in it") {
  const tests::TempDir folder;
  const Model model = open_with_dense_layer(folder, convert::Quant::q8);
  // Matrices of attention; dense layer; routers, four experts and the shared one with its router.
  const std::uint64_t attention = 3 * (72 * 96 * 2 + 72 * 48 * 2);
  const std::uint64_t mixtures = 2 * (128 * 72 + 4 * 3 * 72 * 40 + 3 * 72 * 100 + 72);
  CHECK(model.prefill_operations_per_token() == 2 * (attention + 3 * 72 * 200 + mixtures));
  std::uint64_t bytes = 0;
  for (const auto& tensor : model.impl().container.tensors()) {
    const bool of_expert = tensor.name.find(".experts.") != std::string::npos;
    // The embedding is the head, and all of it is read.
    bytes += of_expert ? tensor.length_bytes * 4 / 128 : tensor.length_bytes;
  }
  CHECK(model.decode_bytes_per_token() == bytes);
}

TEST_CASE(
    "a shared expert and a dense layer are verified before they are used, mapped or beside an expert cache") {
  const tests::TempDir folder;
  const auto path = folder / "q8.sluice";
  for (const char* name : {"layers.1.feed_forward.shared.w2.weight", "layers.0.feed_forward.w3.weight"}) {
    std::uint64_t offset_bytes = 0;
    {
      const Model model = open_with_dense_layer(folder, convert::Quant::q8);
      offset_bytes = model.impl().container.find(name)->offset_bytes;
    }
    std::string bytes = base::read_text_file(path);
    bytes[static_cast<std::size_t>(offset_bytes) + 5] ^= 1;
    tests::write_plainly(path, bytes);
    const Model model = Model::open(path);
    for (const bool streams : {false, true}) {
      SessionOptions options;
      options.context_tokens = 10;
      Session session(model, options);
      if (streams) session.engine().impl().weights.stream(3);
      CHECK_ERROR(session.feed(std::vector<TokenId>{1, 2}), base::ErrorKind::verification, name);
    }
  }
}
