// Tiny checkpoints of today's families, each in the layout in which its family is released, against numbers
// of an independent implementation in double (tests/data/README.md).

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/json.h"
#include "runtime/runtime.h"
#include "tests/support/golden_files.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "text/text.h"

using namespace sluice;
using format::Json;
using runtime::MatmulEngine;
using runtime::Model;
using runtime::Session;
using runtime::TokenId;

namespace {

const std::filesystem::path kFamilies = SLUICE_TEST_DATA "/families";

/// The folders with golden numbers, so that a new family needs no new code.
std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFamilies))
    if (std::filesystem::exists(entry.path() / "golden.json")) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

/// Converts each release once for all cases.
const Model& model(const std::string& family, convert::Quant quant) {
  static const tests::TempDir folder;
  static std::map<std::pair<std::string, convert::Quant>, Model> models;
  const auto key = std::pair(family, quant);
  if (const auto found = models.find(key); found != models.end()) return found->second;
  const auto output = folder / (family + "-" + std::to_string(static_cast<int>(quant)));
  return models.emplace(key, Model::open(tests::make_container(kFamilies / family / "model", output, quant)))
      .first->second;
}

runtime::SessionOptions options(std::uint64_t context_tokens) {
  runtime::SessionOptions o;
  o.matmul = MatmulEngine::own;
  o.thread_count = 2;
  o.context_tokens = context_tokens;
  return o;
}

Json golden(const std::string& family, const std::string& name) {
  return tests::read_golden(kFamilies / family / name);
}

/// The largest difference between `logits` and the end of the golden array of that name.
double worst_logit(const std::string& family, const std::string& name, const std::vector<float>& logits) {
  const auto expected = tests::read_npy(kFamilies / family / name);
  REQUIRE(expected.size() <= logits.size());
  const std::size_t skipped = logits.size() - expected.size();
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    worst = std::max(worst, std::fabs(static_cast<double>(logits[skipped + i]) - expected[i]));
  return worst;
}

std::vector<float> all_logits(const Model& m, const std::vector<TokenId>& ids) {
  Session session(m, options(256));
  std::vector<float> all;
  session.feed_all(
      ids, [&](std::size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
  return all;
}

runtime::Evaluation evaluate(const std::string& family, convert::Quant quant, const Model* reference) {
  const std::string text = base::read_text_file(kFamilies / "valid_8k.txt");
  return runtime::evaluate(model(family, quant), reference, text, options(128),
                           [](std::uint64_t, std::uint64_t) {}, {});
}

}  // namespace

TEST_CASE("there are golden numbers of sixteen families") { CHECK(families().size() >= 16); }

TEST_CASE("families: prompts become the golden token ids") {
  for (const std::string& family : families()) {
    CAPTURE(family);
    const Json numbers = golden(family, "golden.json");
    const auto& tokenizer = model(family, convert::Quant::bf16).tokenizer();
    for (const Json& prompt : numbers.at("prompts", "golden").as_array("golden"))
      CHECK(tokenizer.encode_prompt(prompt.at("prompt", "golden").as_string("golden")) ==
            tests::golden_ids(prompt.at("ids", "golden")));
  }
}

TEST_CASE("families: conversations become the golden token ids") {
  for (const std::string& family : families()) {
    if (!std::filesystem::exists(kFamilies / family / "chat.json")) continue;  // Grok-1 is a base model
    const text::ChatFormat format = model(family, convert::Quant::bf16).chat_format();
    // Mistral's own releases have no template: the version in tekken.json says how conversations are written.
    const bool native = std::filesystem::exists(kFamilies / family / "model/tekken.json");
    CHECK((format.kind() == text::ChatFormat::Kind::chat_template) != native);
    const Json numbers = golden(family, "chat.json");
    for (const Json& conversation : numbers.at("conversations", "golden").as_array("golden")) {
      CAPTURE(family);
      CAPTURE(conversation.at("text", "golden").as_string("golden"));
      CHECK(format.prompt(conversation.at("messages", "golden")).ids ==
            tests::golden_ids(conversation.at("ids", "golden")));
    }
  }
}

TEST_CASE("families: bf16 logits are within 1e-3 of the golden ones") {
  for (const std::string& family : families()) {
    CAPTURE(family);
    const Json numbers = golden(family, "golden.json");
    const auto& prompts = numbers.at("prompts", "golden").as_array("golden");
    const Model& m = model(family, convert::Quant::bf16);
    const auto logits_of = [&](std::size_t prompt) {
      return all_logits(m, tests::golden_ids(prompts[prompt].at("ids", "golden")));
    };
    const double worst = std::max(worst_logit(family, "logits_all_0.npy", logits_of(0)),
                                  worst_logit(family, "logits_last_4.npy", logits_of(4)));
    CHECK_MESSAGE(worst < 1e-3, family << ": largest difference " << worst);
  }
}

TEST_CASE("families: bf16 continues the golden prompts with the golden tokens and text") {
  for (const std::string& family : families()) {
    const Model& m = model(family, convert::Quant::bf16);
    const Json numbers = golden(family, "golden.json");
    for (const Json& prompt : numbers.at("prompts", "golden").as_array("golden")) {
      CAPTURE(family);
      CAPTURE(prompt.at("prompt", "golden").as_string("golden"));
      Session session(m, options(256));
      const auto ids = tests::golden_ids(prompt.at("greedy_ids", "golden"));
      const auto generation = runtime::generate(session, m, tests::golden_ids(prompt.at("ids", "golden")), 24,
                                                {.temperature = 0}, [](TokenId, std::string_view) {}, {});
      CHECK(generation.ids == ids);
      std::string text = generation.text;
      // SentencePiece decodes ids that stand alone without the space before the first word.
      const bool pieces = std::filesystem::exists(kFamilies / family / "model/tokenizer.model");
      if (pieces && text.starts_with(' ')) text.erase(0, 1);
      CHECK(text == prompt.at("greedy_new_text", "golden").as_string("golden"));
    }
  }
}

TEST_CASE("families: bf16 chooses the golden experts, with the golden weights") {
  for (const std::string& family : families()) {
    CAPTURE(family);
    const Json numbers = golden(family, "routing_0.json");
    std::map<std::uint64_t, const Json*> layers;
    for (const Json& layer : numbers.at("layers", "golden").as_array("golden"))
      layers[layer.at("layer", "golden").as_uint("golden")] = &layer;
    std::size_t events = 0;
    runtime::SessionOptions o = options(256);
    o.on_routing = [&](const runtime::RoutingEvent& event) {
      ++events;
      REQUIRE(layers.contains(event.layer));
      const auto row = [&](const char* key) {
        return layers.at(event.layer)->at(key, "golden").as_array("golden").at(event.position);
      };
      const Json experts = row("experts");
      const Json weights = row("weights");
      std::map<std::uint64_t, double> expected;
      for (std::size_t i = 0; i < event.experts.size(); ++i)
        expected[experts.as_array("golden").at(i).as_uint("golden")] =
            weights.as_array("golden").at(i).as_double("golden");
      REQUIRE(expected.size() == experts.as_array("golden").size());
      for (std::size_t i = 0; i < event.experts.size(); ++i) {
        REQUIRE(expected.contains(event.experts[i]));
        CHECK(std::fabs(static_cast<double>(event.weights[i]) - expected.at(event.experts[i])) < 1e-4);
      }
    };
    Session session(model(family, convert::Quant::bf16), o);
    const auto ids = tests::golden_ids(numbers.at("ids", "golden"));
    session.feed(ids);
    CHECK(events == ids.size() * layers.size());
  }
}

namespace {

// Random weights make large logits, and an expert that changes costs whole units, so these models are far
// more sensitive to rounding than trained ones. The numbers are KL divergences of llama.cpp's Q8_0 (a scale
// for 32 weights) with activations in double, computed by the independent implementation: what 8 bits cost
// here at least; the experts of gpt_oss are kept exact. q8 has a scale for a row, and rounds activations to 8
// bits as well.
const std::map<std::string, double> kQ8Floor{
    {"deepseek_v2", 0.0285},   {"deepseek_v3_fp8", 0.343}, {"gemma4", 0.581},        {"glm4_moe", 0.0217},
    {"glm4_moe_lite", 0.0521}, {"gpt_oss", 0.0256},        {"granitemoe", 0.00067},  {"grok-1", 0.577},
    {"lfm2_moe", 0.0656},      {"minimax_m2", 0.115},      {"mistral4_fp8", 0.0126}, {"olmoe", 0.0275},
    {"qwen2_moe", 0.0248},     {"qwen3_5_moe", 0.125},     {"qwen3_moe", 0.0172},    {"qwen3_next", 0.0921}};

// The same for 4 bits, where that is more than 0.6: feed-forwards in codes from -7 to 7, all else from -31 to
// 31, a scale for 16 weights. Groups of experts make DeepSeek-V3 sensitive; Gemma-4's random model is more
// so.
const std::map<std::string, double> kQ4Floor{
    {"deepseek_v2", 0.709}, {"deepseek_v3_fp8", 1.99}, {"gemma4", 4.69},      {"glm4_moe_lite", 0.649},
    {"grok-1", 2.86},       {"lfm2_moe", 0.764},       {"qwen3_5_moe", 1.56}, {"qwen3_next", 1.35}};

}  // namespace

TEST_CASE("families: bf16 has the golden perplexity, and q8 stays close to what 8 bits cost") {
  for (const std::string& family : families()) {
    CAPTURE(family);
    const Json numbers = golden(family, "perplexity.json");
    const auto bf16 = evaluate(family, convert::Quant::bf16, nullptr);
    const double expected = numbers.at("nll_sum", "golden").as_double("golden");
    CHECK(bf16.tokens == numbers.at("targets", "golden").as_uint("golden"));
    const double sum = bf16.nll * static_cast<double>(bf16.tokens);
    CHECK_MESSAGE(std::fabs(sum / expected - 1) < 2e-4, sum << " instead of " << expected);
    const Model& reference = model(family, convert::Quant::bf16);
    const auto q8 = evaluate(family, convert::Quant::q8, &reference);
    const auto q4 = evaluate(family, convert::Quant::q4, &reference);
    MESSAGE(family << ": KL to bf16 q8 " << *q8.kl_divergence << ", q4 " << *q4.kl_divergence);
    REQUIRE(kQ8Floor.contains(family));
    CHECK(*q8.kl_divergence < 3 * kQ8Floor.at(family));
    CHECK(*q4.kl_divergence < (kQ4Floor.contains(family) ? kQ4Floor.at(family) : 0.6));
  }
}
