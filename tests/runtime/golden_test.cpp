// stories-moe against numbers of an independent PyTorch implementation (tests/data/reference.py made them).

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/json.h"
#include "runtime/runtime.h"
#include "tests/support/golden_files.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using format::Json;
using runtime::MatmulEngine;
using runtime::Model;
using runtime::Session;
using runtime::SessionOptions;
using runtime::TokenId;

namespace {

const std::string kData = SLUICE_TEST_DATA "/stories-moe/";

Json read_json(const std::string& name) { return tests::read_golden(kData + name); }

std::vector<TokenId> ids_of(const Json& array) { return tests::golden_ids(array); }

std::vector<float> read_npy(const std::string& name) { return tests::read_npy(kData + name); }

/// Converts the demo release once for all cases.
const Model& model(convert::Quant quant) {
  static const tests::TempDir folder;
  static const Model bf16 =
      Model::open(tests::make_container(SLUICE_DEMO_RELEASE, folder / "b", convert::Quant::bf16));
  static const Model q8 =
      Model::open(tests::make_container(SLUICE_DEMO_RELEASE, folder / "8", convert::Quant::q8));
  static const Model q4 =
      Model::open(tests::make_container(SLUICE_DEMO_RELEASE, folder / "4", convert::Quant::q4));
  return quant == convert::Quant::bf16 ? bf16 : (quant == convert::Quant::q8 ? q8 : q4);
}

SessionOptions options(std::uint64_t context, MatmulEngine engine = MatmulEngine::automatic) {
  SessionOptions o;
  o.matmul = engine;
  o.thread_count = 2;
  o.context_tokens = context;
  return o;
}

/// The first tokens of valid.txt, so that the suite stays short; the whole text is measured by `sluice eval`.
runtime::Evaluation evaluate(convert::Quant quant) {
  const std::string text = base::read_text_file(kData + "valid.txt").substr(0, 24000);
  return runtime::evaluate(model(quant), &model(convert::Quant::bf16), text, options(256),
                           [](std::uint64_t, std::uint64_t) {}, {});
}

}  // namespace

TEST_CASE("prompts become the golden token ids") {
  const Json golden = read_json("golden.json");
  const auto& prompts = golden.at("prompts", "golden").as_array("golden");
  REQUIRE(prompts.size() == 6);
  for (const Json& prompt : prompts) {
    auto ids = model(convert::Quant::bf16)
                   .tokenizer()
                   .encode_prompt(prompt.at("prompt", "golden").as_string("golden"));
    CHECK(ids == ids_of(prompt.at("ids", "golden")));
  }
}

TEST_CASE("bf16: greedy continuations are the golden ones, token for token, and so is the text") {
  const Model& m = model(convert::Quant::bf16);
  const Json golden = read_json("golden.json");
  for (const auto engine : {MatmulEngine::own, MatmulEngine::onednn}) {
    CAPTURE(static_cast<int>(engine));
    for (const Json& prompt : golden.at("prompts", "golden").as_array("golden")) {
      Session session(m, options(256, engine));
      std::string streamed;
      const auto generation =
          runtime::generate(session, m, ids_of(prompt.at("ids", "golden")), 48, {.temperature = 0},
                            [&](TokenId, std::string_view text) { streamed += text; }, {});
      CHECK(generation.ids == ids_of(prompt.at("greedy_ids", "golden")));
      const std::string& expected = prompt.at("greedy_new_text", "golden").as_string("golden");
      CHECK(generation.text == expected);
      CHECK(streamed == generation.text);
    }
  }
}

namespace {

/// The largest difference between the logits of one golden prompt and the golden ones.
double worst_logit(std::size_t prompt, MatmulEngine engine) {
  const Json golden = read_json("golden.json");
  const auto& prompts = golden.at("prompts", "golden").as_array("golden");
  Session session(model(convert::Quant::bf16), options(256, engine));
  const auto ids = ids_of(prompts[prompt].at("ids", "golden"));
  std::vector<float> all;
  session.feed_all(
      ids, [&](std::size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
  const auto last = read_npy("logits_last_" + std::to_string(prompt) + ".npy");
  REQUIRE(last.size() == 2048);
  double worst = 0;
  for (std::size_t j = 0; j < last.size(); ++j)
    worst = std::max(worst, std::fabs(static_cast<double>(all[all.size() - 2048 + j] - last[j])));
  if (prompt < 2) {
    const auto expected = read_npy("logits_all_" + std::to_string(prompt) + ".npy");
    REQUIRE(expected.size() == all.size());
    for (std::size_t j = 0; j < all.size(); ++j)
      worst = std::max(worst, std::fabs(static_cast<double>(all[j] - expected[j])));
  }
  return worst;
}

}  // namespace

TEST_CASE("bf16: logits are within 1e-3 of the golden ones") {
  for (std::size_t i = 0; i < 6; ++i) {
    const double worst = worst_logit(i, MatmulEngine::own);
    CHECK_MESSAGE(worst < 1e-3, "prompt " << i << ": largest difference " << worst);
  }
}

TEST_CASE("bf16 through oneDNN: logits differ by the rounding of activations at most") {
  const double bound = 0.1;
  for (std::size_t i = 0; i < 6; ++i) {
    const double worst = worst_logit(i, MatmulEngine::onednn);
    CHECK_MESSAGE(worst < bound, "prompt " << i << ": largest difference " << worst);
  }
}

TEST_CASE("bf16: the same experts are chosen, with the same weights") {
  const Json golden = read_json("routing_0.json");
  const auto& layers = golden.at("layers", "golden").as_array("golden");
  SessionOptions o = options(256, MatmulEngine::own);
  std::size_t events = 0;
  o.on_routing = [&](const runtime::RoutingEvent& event) {
    ++events;
    const Json& layer = layers.at(event.layer);
    const auto& experts =
        layer.at("experts", "golden").as_array("golden").at(event.position).as_array("golden");
    const auto& weights =
        layer.at("weights", "golden").as_array("golden").at(event.position).as_array("golden");
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(event.experts[i] == experts[i].as_uint("golden"));
      CHECK(event.weights[i] == doctest::Approx(weights[i].as_double("golden")).epsilon(1e-4));
    }
  };
  Session session(model(convert::Quant::bf16), o);
  const auto ids = ids_of(golden.at("ids", "golden"));
  session.feed(ids);
  CHECK(events == ids.size() * layers.size());
}

TEST_CASE("q8 and q4 stay within their bounds of the bf16 model") {
  const auto reference = evaluate(convert::Quant::bf16);
  CHECK(reference.kl_divergence.value() == 0);
  CHECK(reference.routing_agreement.value() == 1);
  const auto q8 = evaluate(convert::Quant::q8);
  MESSAGE("q8: KL " << *q8.kl_divergence << ", perplexity " << q8.perplexity << " / "
                    << reference.perplexity);
  CHECK(*q8.kl_divergence < 0.003);
  CHECK(std::fabs(q8.perplexity / reference.perplexity - 1) < 0.003);
  const auto q4 = evaluate(convert::Quant::q4);
  MESSAGE("q4: KL " << *q4.kl_divergence << ", perplexity " << q4.perplexity << " / "
                    << reference.perplexity);
  CHECK(*q4.kl_divergence < 0.0175);
  CHECK(std::fabs(q4.perplexity / reference.perplexity - 1) < 0.015);
}

TEST_CASE("q8 and q4: every instruction set continues the golden prompts with the same tokens") {
  const Json golden = read_json("golden.json");
  for (const auto quant : {convert::Quant::q8, convert::Quant::q4}) {
    const Model& m = model(quant);
    for (const Json& prompt : golden.at("prompts", "golden").as_array("golden")) {
      const auto continued = [&](runtime::Isa isa) {
        SessionOptions o = options(64);
        o.isa = isa;
        Session session(m, o);
        return runtime::generate(session, m, ids_of(prompt.at("ids", "golden")), 12, {.temperature = 0},
                                 [](TokenId, std::string_view) {}, {})
            .ids;
      };
      const auto expected = continued(runtime::Isa::generic);
      for (const auto isa : runtime::kIsas) {
        if (isa == runtime::Isa::generic) continue;
        if (runtime::is_supported(isa)) {
          CHECK(continued(isa) == expected);
        } else {
          MESSAGE("SKIPPED: this CPU has no " << runtime::to_string(isa));
        }
      }
    }
  }
}
