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

#include "format/model_description.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/runtime/logits.h"
#include "tests/runtime/slow_reference.h"
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
