// Several sequences in one step: with q8 and q4 containers each gets the bits that it gets alone, whoever
// joins and leaves; KV pages come from one budget and return to it.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using runtime::Engine;
using runtime::EngineOptions;
using runtime::LogitsOf;
using runtime::Model;
using runtime::Sequence;
using runtime::StepInput;
using runtime::TokenId;

namespace {

using Bits = std::vector<std::uint32_t>;

void append_bits(Bits& bits, std::span<const float> logits) {
  const std::size_t size = bits.size();
  bits.resize(size + logits.size());
  std::memcpy(&bits[size], logits.data(), logits.size_bytes());
}

/// A sequence of given tokens that joins at some step, and the bits of its logits after every token.
struct Script {
  std::size_t joins_at_step = 0;
  std::vector<TokenId> tokens;
  Bits expected;
};

std::vector<Script> random_scripts(std::mt19937_64& random) {
  std::vector<Script> scripts(1 + random() % 17);
  for (Script& script : scripts) {
    script.joins_at_step = random() % 12;
    script.tokens.resize(1 + random() % 90);
    for (TokenId& token : script.tokens) token = static_cast<TokenId>(random() % tests::kTinyVocab);
  }
  return scripts;
}

void compute_alone(const Model& model, const EngineOptions& options, Script& script) {
  Engine engine(model, options);
  Sequence sequence(engine);
  const StepInput input{&sequence, script.tokens, LogitsOf::every_token};
  const auto logits = engine.step({&input, 1});
  REQUIRE(logits.size() == script.tokens.size());
  for (std::size_t i = 0; i < logits.size(); ++i) append_bits(script.expected, logits[i]);
}

/// A sequence of a script within a batch.
struct Running {
  const Script* script;
  Sequence sequence;
  std::size_t done = 0;
  Bits bits;
};

/// Up to `left` of the next tokens: often one, as while decoding, otherwise a part of a prompt.
std::size_t next_count(const Running& running, std::size_t left, std::mt19937_64& random) {
  const std::size_t wanted = random() % 2 == 0 ? 1 : 1 + random() % 40;
  return std::min({wanted, left, running.script->tokens.size() - running.done});
}

/// All scripts in one engine, in steps of random sizes. A sequence leaves when its script is done.
void run_together(const Model& model, const EngineOptions& options, const std::vector<Script>& scripts,
                  std::mt19937_64& random) {
  Engine engine(model, options);
  std::vector<std::unique_ptr<Running>> running;
  std::size_t finished = 0;
  for (std::size_t step = 0; finished < scripts.size(); ++step) {
    for (const Script& script : scripts)
      if (script.joins_at_step == step)
        running.push_back(std::make_unique<Running>(Running{&script, Sequence(engine), 0, {}}));
    std::ranges::shuffle(running, random);
    std::vector<StepInput> inputs;
    std::vector<Running*> computed;
    std::size_t left = options.step_tokens_max;
    for (const auto& r : running) {
      const std::size_t count = random() % 5 == 0 ? 0 : next_count(*r, left, random);
      if (count == 0) continue;
      left -= count;
      computed.push_back(r.get());
      inputs.push_back(
          {&r->sequence, std::span(r->script->tokens).subspan(r->done, count), LogitsOf::every_token});
    }
    const auto logits = engine.step(inputs);
    std::size_t row = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      for (std::size_t t = 0; t < inputs[i].tokens.size(); ++t) append_bits(computed[i]->bits, logits[row++]);
      computed[i]->done += inputs[i].tokens.size();
      CHECK(computed[i]->sequence.position() == computed[i]->done);
    }
    REQUIRE(row == logits.size());
    finished += std::erase_if(running, [](const auto& r) {
      if (r->done < r->script->tokens.size()) return false;
      CHECK(r->bits == r->script->expected);
      return true;
    });
  }
  CHECK(engine.kv_pages().free == engine.kv_pages().total);
  CHECK(engine.recurrent_states().free == engine.recurrent_states().total);
}

std::filesystem::path tiny_container(const tests::TempDir& folder, convert::Quant quant) {
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  return tests::make_container(folder.path(), folder / "m.sluice", quant);
}

}  // namespace

TEST_CASE("a sequence's logits are the same bits alone and beside any others") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 16; ++round) {
    const auto quant = round % 2 == 0 ? convert::Quant::q8 : convert::Quant::q4;
    const tests::TempDir folder;
    const auto description = tests::random_description(random);
    CAPTURE(round);
    CAPTURE(to_json(description).dump());
    const Model model = Model::open(tests::write_container(
        folder / "m.sluice", description, tests::random_weights(description, random()), quant));
    auto scripts = random_scripts(random);
    EngineOptions options;
    options.thread_count = 2;
    options.context_tokens = 128;
    options.step_tokens_max = 128;
    options.kv = std::array{runtime::KvType::bf16, runtime::KvType::q8, runtime::KvType::f32}[round % 3];
    for (Script& script : scripts) compute_alone(model, options, script);

    options.thread_count = 1 + static_cast<unsigned>(random() % 3);
    options.step_tokens_max = 40 + random() % 60;
    options.kv_budget_bytes = std::uint64_t{64} << 20;
    options.state_budget_bytes = std::uint64_t{64} << 20;
    run_together(model, options, scripts, random);
  }
}

TEST_CASE("a step returns the rows of logits that its inputs ask for, in their order") {
  const tests::TempDir folder;
  const Model model = Model::open(tiny_container(folder, convert::Quant::q4));
  Engine engine(model, {.kv_budget_bytes = std::uint64_t{16} << 20});
  const std::vector<TokenId> tokens{1, 5, 9, 70};
  std::vector<Bits> every(tokens.size());
  {
    Sequence sequence(engine);
    const StepInput input{&sequence, tokens, LogitsOf::every_token};
    const auto logits = engine.step({&input, 1});
    for (std::size_t i = 0; i < every.size(); ++i) append_bits(every[i], logits[i]);
  }
  Sequence a(engine), b(engine), c(engine);
  const StepInput inputs[] = {{&a, std::span(tokens).first(3), LogitsOf::none},
                              {&b, std::span(tokens).first(2), LogitsOf::every_token},
                              {&c, tokens, LogitsOf::last_token}};
  const auto logits = engine.step(inputs);
  REQUIRE(logits.size() == 3);
  for (const auto& [row, token] : {std::pair{0, 0}, {1, 1}, {2, 3}}) {
    Bits bits;
    append_bits(bits, logits[static_cast<std::size_t>(row)]);
    CHECK(bits == every[static_cast<std::size_t>(token)]);
  }
  const StepInput next{&a, std::span(tokens).last(1), LogitsOf::none};
  CHECK(engine.step({&next, 1}).size() == 0);
  CHECK(a.position() == 4);
}

TEST_CASE("each sequence's listener gets the routing of its own tokens") {
  const tests::TempDir folder;
  const Model model = Model::open(tiny_container(folder, convert::Quant::q8));
  Engine engine(model, {.kv_budget_bytes = std::uint64_t{16} << 20});
  std::map<std::uint64_t, std::vector<TokenId>> seen;  // by layer
  Sequence heard(engine, {.on_routing = [&](const runtime::RoutingEvent& event) {
                   CHECK(event.position == seen[event.layer].size());
                   CHECK(event.margin.has_value());
                   seen[event.layer].push_back(event.token);
                 }});
  Sequence other(engine);
  const std::vector<TokenId> mine{1, 2, 3}, others{7, 8};
  const StepInput inputs[] = {{&other, others}, {&heard, mine}};
  engine.step(inputs);
  CHECK(seen.size() == 2);
  for (const auto& [layer, tokens] : seen) CHECK(tokens == mine);
}

TEST_CASE("pages come from a budget, are given back, and a step without enough of them changes nothing") {
  const tests::TempDir folder;
  const Model model = Model::open(tiny_container(folder, convert::Quant::q8));
  const std::uint64_t page_bytes = Engine(model, {}).kv_pages().page_bytes;
  Engine engine(model, {.context_tokens = 1000, .kv_budget_bytes = 3 * page_bytes});
  CHECK(engine.kv_pages().total == 3);
  const std::vector<TokenId> tokens(100, 5);
  Sequence first(engine);
  const StepInput hundred{&first, tokens};
  engine.step({&hundred, 1});
  CHECK(engine.kv_pages().free == 1);
  {
    Sequence second(engine);
    CHECK(second.pages_needed(64) == 1);
    CHECK(second.pages_needed(65) == 2);
    const StepInput both[] = {{&first, std::span(tokens).first(1)}, {&second, std::span(tokens).first(65)}};
    CHECK_ERROR(engine.step(both), ErrorKind::usage,
                "need 2 more pages of 64 tokens, 1 of the budget's 3 are free");
    CHECK(first.position() == 100);
    CHECK(second.position() == 0);
    CHECK(engine.kv_pages().free == 1);
    const StepInput fits{&second, std::span(tokens).first(64)};
    engine.step({&fits, 1});
    CHECK(engine.kv_pages().free == 0);
  }
  CHECK(engine.kv_pages().free == 1);
  first.reset();
  CHECK(engine.kv_pages().free == 3);
  CHECK_ERROR(Engine(model, {.kv_budget_bytes = std::uint64_t{1} << 62}), ErrorKind::usage,
              "a budget of 4.0 EiB for keys and values");
}

TEST_CASE("a stop request, or a token that is not there, leaves every sequence as it was") {
  const tests::TempDir folder;
  const Model model = Model::open(tiny_container(folder, convert::Quant::q8));
  Engine engine(model, {.context_tokens = 100, .kv_budget_bytes = std::uint64_t{16} << 20});
  Sequence a(engine), b(engine, {.context_tokens = 10});
  const std::vector<TokenId> good{1, 2, 3}, outside{1, 2048}, eleven(11, 4);
  const StepInput steps[][2] = {{{&a, good}, {&b, outside}}, {{&a, good}, {&b, eleven}}};
  CHECK_ERROR(engine.step(steps[0]), ErrorKind::malformed, "token id 2048 is outside the vocabulary");
  CHECK_ERROR(engine.step(steps[1]), ErrorKind::malformed, "11 tokens after 0 do not fit the context of 10");
  std::stop_source stop;
  stop.request_stop();
  const StepInput both[] = {{&a, good}, {&b, good}};
  CHECK_ERROR(engine.step(both, stop.get_token()), ErrorKind::interrupted, "interrupted");
  CHECK(a.position() == 0);
  CHECK(b.position() == 0);
  engine.step(both);
  CHECK(a.position() == 3);
  CHECK(b.position() == 3);
}
