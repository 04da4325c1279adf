// Delta nets and short convolutions beside attention: the rule itself, and that a state which cannot be
// rewound neither shows in the bits of what is computed nor suffers from steps that fail.

#include "runtime/memory/recurrent_state.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/forward/engine_impl.h"
#include "runtime/kernels/isa.h"
#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/runtime/logits.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using runtime::Engine;
using runtime::EngineOptions;
using runtime::Model;
using runtime::Sequence;
using runtime::Session;
using runtime::SessionOptions;
using runtime::StepInput;
using runtime::TokenId;

namespace {

/// Both forms of delta nets, a short convolution, and attention between them.
format::ModelDescription hybrid() {
  format::GroupedQueryAttention attention;
  attention.heads = 4;
  attention.key_heads = 2;
  attention.head_dim = 20;
  attention.rope = format::Rope{format::RopeStyle::half_split, 20, 1e4, {}};
  format::Mixture mixture;
  mixture.experts = 8;
  mixture.experts_per_token = 2;
  mixture.width = 40;
  const format::FeedForward experts{{}, mixture};
  format::ModelDescription model;
  model.width = 72;
  model.vocabulary = tests::kTinyVocab;
  model.add_layers(1, {format::GatedDeltaNet{2, 6, 24, 40, 4, format::DeltaInputs::separate}, experts});
  model.add_layers(1, {attention, experts});
  model.add_layers(1, {format::GatedDeltaNet{3, 3, 16, 16, 3, format::DeltaInputs::packed}, experts});
  model.add_layers(1, {format::ShortConvolution{3}, experts});
  return model;
}

Model open_hybrid(const tests::TempDir& folder, convert::Quant quant = convert::Quant::q4) {
  const auto description = hybrid();
  return Model::open(
      tests::write_container(folder / "m.sluice", description, tests::random_weights(description, 5), quant));
}

std::vector<TokenId> random_tokens(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % tests::kTinyVocab);
  return ids;
}

SessionOptions session_options(std::uint64_t snapshots = 0) {
  SessionOptions options;
  options.thread_count = 2;
  options.context_tokens = 3000;
  options.snapshots = snapshots;
  return options;
}

std::vector<float> feed(Session& session, std::span<const TokenId> ids) {
  const auto logits = session.feed(ids);
  return {logits.begin(), logits.end()};
}

/// The logits after all tokens, computed in one session without any tricks.
std::vector<float> plain(const Model& model, std::span<const TokenId> ids) {
  Session session(model, session_options());
  return feed(session, ids);
}

const runtime::Kernels& kernels_of(runtime::Isa isa) { return runtime::kernels_for(isa); }

}  // namespace

TEST_CASE("the delta rule gives the numbers that its definition gives") {
  // Worked out from arXiv 2412.06464 with keys and queries of length 1, queries times 2^-1/2.
  const double a_log = 0.5, time_bias = 0.1;
  struct Token {
    std::array<double, 2> q, k, v;
    double a, b;
    std::array<double, 2> out;
  };
  const Token tokens[] = {{{1, 2}, {2, 1}, {1, -1}, 0.2, 0.3, {0.324954, -0.324954}},
                          {{-1, 1}, {1, 1}, {0.5, 2}, -0.4, 1.0, {-0.051499, 0.051499}},
                          {{3, 0.5}, {-1, 2}, {2, 1}, 1.0, -0.5, {-0.128672, 0.004529}}};
  const double state[2][2] = {{-0.300875, -0.064520}, {0.698368, 0.426084}};
  for (const runtime::Isa isa : runtime::kIsas) {
    if (!runtime::is_supported(isa)) continue;
    alignas(64) std::array<float, 48> q{}, k{}, v{}, out{};
    alignas(64) std::array<float, 32> zeros{}, found{};
    std::array<float, 3> decays{}, betas{};
    for (std::size_t t = 0; t < 3; ++t) {
      const double q_length = std::hypot(tokens[t].q[0], tokens[t].q[1]) * std::sqrt(2.0);
      const double k_length = std::hypot(tokens[t].k[0], tokens[t].k[1]);
      for (std::size_t i = 0; i < 2; ++i) {
        q[t * 16 + i] = static_cast<float>(tokens[t].q[i] / q_length);
        k[t * 16 + i] = static_cast<float>(tokens[t].k[i] / k_length);
        v[t * 16 + i] = static_cast<float>(tokens[t].v[i]);
      }
      const double softplus = std::log1p(std::exp(tokens[t].a + time_bias));
      decays[t] = static_cast<float>(std::exp(-std::exp(a_log) * softplus));
      betas[t] = static_cast<float>(1 / (1 + std::exp(-tokens[t].b)));
    }
    kernels_of(isa).delta_rule({q.data(), k.data(), v.data(), decays.data(), betas.data(), 3, 2, 16, 16},
                               zeros.data(), found.data(), out.data());
    for (std::size_t t = 0; t < 3; ++t)
      for (std::size_t i = 0; i < 2; ++i)
        CHECK(std::fabs(static_cast<double>(out[t * 16 + i]) - tokens[t].out[i]) < 2e-6);
    for (std::size_t row = 0; row < 2; ++row)
      for (std::size_t i = 0; i < 2; ++i)
        CHECK(std::fabs(static_cast<double>(found[row * 16 + i]) - state[row][i]) < 2e-6);
  }
}

TEST_CASE("the delta rule has the same bits on every instruction set, in place and token by token") {
  std::mt19937_64 random(8);
  std::normal_distribution<float> normal;
  for (const auto& [key_dim, value_dim] : {std::pair{2u, 16u}, {37u, 80u}, {128u, 128u}, {24u, 240u}}) {
    const std::size_t key_stride = (key_dim + 15) / 16 * 16;
    const std::size_t count = runtime::kDeltaTokens - 3;
    const auto draw = [&](std::size_t rows, std::size_t used, std::size_t stride) {
      runtime::Buffer<float> buffer(rows * stride);
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t i = 0; i < used; ++i) buffer[r * stride + i] = normal(random) * 0.2f;
      return buffer;
    };
    const auto q = draw(count, key_dim, key_stride), k = draw(count, key_dim, key_stride),
               v = draw(count, value_dim, value_dim), before = draw(key_dim, value_dim, value_dim);
    std::vector<float> decays(count), betas(count);
    for (std::size_t t = 0; t < count; ++t) {
      decays[t] = static_cast<float>(random() % 1000) / 1000;
      betas[t] = static_cast<float>(random() % 1000) / 1000;
    }
    const auto run = [&](runtime::Isa isa, std::size_t piece) {
      std::vector<float> result(count * value_dim + key_dim * value_dim);
      float* const state = result.data() + count * value_dim;
      const float* from = before.data();
      for (std::size_t t = 0; t < count; t += piece, from = state)
        kernels_of(isa).delta_rule({&q[t * key_stride], &k[t * key_stride], &v[t * value_dim], &decays[t],
                                    &betas[t], std::min(piece, count - t), key_dim, key_stride, value_dim},
                                   from, state, result.data() + t * value_dim);
      return result;
    };
    const auto expected = run(runtime::Isa::generic, count);
    for (const runtime::Isa isa : runtime::kIsas) {
      if (!runtime::is_supported(isa)) continue;
      for (const std::size_t piece : {std::size_t{1}, std::size_t{5}, count})
        CHECK(tests::same_bits(run(isa, piece), expected));
    }
  }
}

TEST_CASE("a state belongs to its references, and returns to the pool with the last one") {
  const auto shape = runtime::require_supported(hybrid(), "m");
  // 72 channels are padded to 128, 216 to 256 and 144 to 192.
  const std::uint64_t state_bytes = 4 * (3 * 384 + 6 * 24 * 48 + 2 * 192 + 3 * 16 * 16 + 2 * 128);
  CHECK(runtime::RecurrentPool::state_bytes(shape) == state_bytes);
  runtime::RecurrentPool pool(shape, 3 * state_bytes + state_bytes / 2);
  CHECK(pool.state_count() == 3);
  CHECK(pool.bytes() == 3 * state_bytes);
  {
    runtime::RecurrentState a = pool.take();
    runtime::RecurrentState b = pool.take();
    CHECK(a.data() != b.data());
    CHECK(pool.free_state_count() == 1);
    const float* const kept = a.data();
    b = a;
    CHECK(pool.free_state_count() == 2);
    a = {};
    CHECK(pool.free_state_count() == 2);
    CHECK(b.data() == kept);
    const runtime::RecurrentState c = std::move(b);
    CHECK(!b);
    CHECK(pool.free_state_count() == 2);
    CHECK(std::all_of(pool.zeros(), pool.zeros() + state_bytes / 4, [](float x) { return x == 0; }));
  }
  CHECK(pool.free_state_count() == 3);
}

TEST_CASE("tokens one by one, in chunks of 7 and 512, and beside 16 other sequences give the same bits") {
  const tests::TempDir folder;
  for (const auto quant : {convert::Quant::q8, convert::Quant::q4}) {
    const Model model = open_hybrid(folder, quant);
    const auto ids = random_tokens(530, 1);
    Session whole(model, session_options());
    const auto expected = tests::logits_of(whole, ids, 512);
    for (const std::size_t piece : {1u, 7u}) {
      Session session(model, session_options());
      CHECK(tests::same_bits(tests::logits_of(session, ids, piece), expected));
    }
    Engine engine(model, {.thread_count = 2,
                          .context_tokens = 600,
                          .kv_budget_bytes = std::uint64_t{64} << 20,
                          .state_budget_bytes = std::uint64_t{8} << 20});
    std::vector<Sequence> all;
    for (int i = 0; i < 17; ++i) all.emplace_back(engine);
    std::vector<float> found;
    for (std::size_t done = 0; done < ids.size(); done += 10) {
      std::vector<StepInput> inputs;
      for (std::size_t i = 0; i < all.size(); ++i) {
        // The one in the middle; the others have other tokens, and other numbers of them.
        const bool wanted = i == 8;
        const std::size_t count = wanted ? 10 : 1 + (i + done) % 17;
        const std::size_t first = wanted ? done : (i * 31 + done) % 400;
        if (!wanted && all[i].position() + count > 600) continue;
        inputs.push_back({&all[i], std::span(ids).subspan(first, count),
                          wanted ? runtime::LogitsOf::every_token : runtime::LogitsOf::none});
      }
      const auto logits = engine.step(inputs);
      for (std::size_t row = 0; row < logits.size(); ++row)
        found.insert(found.end(), logits[row].begin(), logits[row].end());
    }
    CHECK(tests::same_bits(found, expected));
    all.clear();
    CHECK(engine.recurrent_states().free == engine.recurrent_states().total);
  }
}

TEST_CASE("a step that fails or is stopped leaves states and positions as they were") {
  const tests::TempDir folder;
  const Model model = open_hybrid(folder);
  const auto ids = random_tokens(60, 2);
  const auto expected = plain(model, ids);
  for (const std::size_t last_layer : {0u, 2u, 3u}) {
    for (const bool stops : {false, true}) {
      std::stop_source stop;
      SessionOptions options = session_options(1);
      bool armed = false;
      options.stop = stop.get_token();
      options.on_routing = [&](const runtime::RoutingEvent& event) {
        if (!armed || event.layer != last_layer) return;
        if (!stops) throw std::runtime_error("a listener that fails");
        stop.request_stop();
      };
      Session session(model, options);
      session.feed(std::span(ids).first(40));
      const auto snapshots = session.sequence().impl().snapshots.size();
      armed = true;
      const auto rest = std::span(ids).subspan(40);
      // A stop is seen before the next layer, so the last layer's comes too late for its step.
      if (stops && last_layer < 3) CHECK_ERROR(session.feed(rest), ErrorKind::interrupted, "interrupted");
      if (!stops) CHECK_THROWS_AS(session.feed(rest), std::runtime_error);
      armed = false;
      if (stops && last_layer == 3) continue;
      CHECK(session.position() == 40);
      CHECK(session.sequence().impl().snapshots.size() == snapshots);
      session.set_stop({});
      CHECK(tests::same_bits(feed(session, rest), expected));
      session.reset();
      const auto states = session.engine().recurrent_states();
      CHECK(states.free == states.total);
    }
  }
}

TEST_CASE("a step without enough free states changes nothing") {
  const tests::TempDir folder;
  const Model model = open_hybrid(folder);
  const std::uint64_t state_bytes = Engine(model, {}).recurrent_states().state_bytes;
  CHECK(Engine(model, {}).recurrent_states().total == 2);
  CHECK(Engine(model, {.snapshots = 2}).recurrent_states().total == 5);
  Engine engine(model, {.kv_budget_bytes = std::uint64_t{16} << 20, .state_budget_bytes = 3 * state_bytes});
  const auto ids = random_tokens(5, 3);
  Sequence a(engine, {.snapshots = 1}), b(engine);
  const StepInput first{&a, ids};
  engine.step({&first, 1});
  CHECK(engine.recurrent_states().free == 2);
  const StepInput three[] = {{.sequence = &a, .tokens = ids, .snapshot_after = 2}, {&b, ids}};
  CHECK_ERROR(engine.step(three), ErrorKind::usage,
              "recurrent layers need 3 more states, 2 of the budget's 3 are free");
  CHECK(a.position() == 5);
  CHECK(b.position() == 0);
  CHECK(engine.kv_pages().total - engine.kv_pages().free == 1);
  const StepInput two[] = {{&a, ids}, {&b, ids}};
  engine.step(two);
  CHECK(engine.recurrent_states().free == 1);
  CHECK_ERROR(Engine(model, {.state_budget_bytes = std::uint64_t{1} << 62}), ErrorKind::usage,
              "the states of recurrent layers need 4.0 EiB of memory");
}

TEST_CASE("a sequence returns to its snapshots, and goes on from there with the same bits") {
  const tests::TempDir folder;
  const Model model = open_hybrid(folder);
  const auto ids = random_tokens(100, 4);
  const auto others = random_tokens(30, 5);
  const auto branch = [&](std::size_t shared) {
    std::vector<TokenId> both(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(shared));
    both.insert(both.end(), others.begin(), others.end());
    return both;
  };
  // feed() keeps one 16 tokens before the end of what it gets, none in fewer tokens than that.
  Session session(model, session_options(2));
  session.feed(std::span(ids).first(40));
  session.feed(std::span(ids).subspan(40, 50));
  session.feed(std::span(ids).subspan(90, 10));
  CHECK(session.truncate(100) == 100);
  CHECK(session.truncate(99) == 74);
  CHECK(tests::same_bits(feed(session, others), plain(model, branch(74))));
  CHECK(session.position() == 104);
  // The snapshot at 88 has taken the place of that at 24.
  CHECK(session.truncate(87) == 74);
  CHECK(tests::same_bits(feed(session, std::span(ids).subspan(74)), plain(model, ids)));
  CHECK(session.truncate(73) == 0);
  CHECK(tests::same_bits(feed(session, ids), plain(model, ids)));

  // Where the sequence itself keeps one, also as the last of a step's tokens.
  Engine engine(model, {.kv_budget_bytes = std::uint64_t{16} << 20, .snapshots = 3});
  Sequence sequence(engine, {.snapshots = 3});
  const StepInput inputs[] = {
      {.sequence = &sequence, .tokens = std::span(ids).first(30), .snapshot_after = 30},
      {.sequence = &sequence, .tokens = std::span(ids).subspan(30, 5)},
      {.sequence = &sequence, .tokens = std::span(ids).subspan(35, 20)}};
  for (const StepInput& input : inputs) {
    engine.step({&input, 1});
    if (sequence.position() == 35) sequence.keep_snapshot();
  }
  CHECK(sequence.truncate(50) == 35);
  CHECK(sequence.truncate(34) == 30);
  const StepInput next{&sequence, others};
  const auto logits = engine.step({&next, 1});
  CHECK(tests::same_bits({logits[0].begin(), logits[0].end()}, plain(model, branch(30))));
  CHECK(sequence.truncate(29) == 0);
  CHECK(engine.recurrent_states().free == engine.recurrent_states().total);
}

TEST_CASE("a prompt cache goes on from the last state that its prompts share") {
  const tests::TempDir folder;
  const Model model = open_hybrid(folder);
  const auto ids = random_tokens(2400, 6);
  SessionOptions options = session_options(4);
  options.keep_positions = true;
  Session writer(model, options);
  const auto expected = feed(writer, ids);
  save_prompt_cache(writer, folder / "cache", ids);
  // A quarter of 2,400 apart, before the end, and at the end, which the last token of a prompt cannot use.
  for (const auto& [shared, reused] : {std::pair{599u, 0u}, {600u, 600u}, {1500u, 1200u}, {2390u, 2384u}}) {
    CAPTURE(shared);
    auto prompt = ids;
    prompt[shared] = (prompt[shared] + 1) % static_cast<TokenId>(tests::kTinyVocab);
    Session reader(model, options);
    const auto use = load_prompt_cache(reader, folder / "cache", prompt);
    CHECK(!use.warning);
    CHECK(use.cached_tokens == shared);
    CHECK(use.reused_tokens == reused);
    CHECK(reader.position() == reused);
    const auto found = feed(reader, std::span(prompt).subspan(reused));
    CHECK(tests::same_bits(found, plain(model, prompt)));
  }
  Session again(model, options);
  CHECK(load_prompt_cache(again, folder / "cache", ids).reused_tokens == 2384);
  CHECK(tests::same_bits(feed(again, std::span(ids).subspan(2384)), expected));
  auto longer = ids;
  longer.push_back(7);
  Session without_snapshots(model, session_options());
  CHECK(load_prompt_cache(without_snapshots, folder / "cache", longer).reused_tokens == 2400);
  CHECK(tests::same_bits(feed(without_snapshots, std::span(longer).last(1)), plain(model, longer)));
}
