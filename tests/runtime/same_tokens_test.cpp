// The promise of docs/run.md, over random models and prompts: with q8 and q4 containers the tokens and the
// bits of the logits do not depend on threads, chunks, prefill or decode, or a prompt cache.

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "format/mistral_params.h"
#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using runtime::KvType;
using runtime::Model;
using runtime::Session;
using runtime::TokenId;

namespace {

constexpr std::uint64_t kNewTokens = 12;

struct Way {
  unsigned threads;
  std::uint64_t chunk;
  bool token_by_token;
  bool cached;
};

/// What is generated after `prompt`, and the bits of the logits after all of it.
struct Result {
  std::vector<TokenId> ids;
  std::vector<std::uint32_t> bits;
  bool operator==(const Result&) const = default;
};

Result execute(const Model& model, KvType kv, const Way& way, std::span<const TokenId> prompt,
               const runtime::SamplingOptions& sampling, const std::filesystem::path& cache) {
  runtime::SessionOptions options;
  options.thread_count = way.threads;
  options.context_tokens = prompt.size() + kNewTokens + 1;
  options.prefill_chunk_tokens = way.chunk;
  options.kv = kv;
  options.keep_positions = way.cached;
  options.snapshots = way.cached ? 2 : 0;
  Session session(model, options);
  if (way.cached) static_cast<void>(load_prompt_cache(session, cache, prompt));
  if (way.token_by_token)
    for (std::size_t i = session.position(); i + 1 < prompt.size(); ++i) session.feed(prompt.subspan(i, 1));
  Result result;
  result.ids =
      runtime::generate(session, model, prompt, kNewTokens, sampling, [](TokenId, std::string_view) {}, {})
          .ids;
  for (const float logit : session.feed(std::vector<TokenId>{5}))
    std::memcpy(&result.bits.emplace_back(), &logit, sizeof(logit));
  if (way.cached) save_prompt_cache(session, cache, prompt);
  return result;
}

}  // namespace

TEST_CASE("the same tokens and bits for any threads, chunks, feeding and prompt cache") {
  std::mt19937_64 random(77);
  for (int round = 0; round < 12; ++round) {
    const auto quant = round % 2 == 0 ? convert::Quant::q8 : convert::Quant::q4;
    const KvType kv = std::array{KvType::bf16, KvType::q8, KvType::f32}[round % 3];
    const tests::TempDir folder;
    const auto description = tests::random_description(random);
    CAPTURE(round);
    CAPTURE(to_json(description).dump());
    const Model model = Model::open(tests::write_container(
        folder / "m.sluice", description, tests::random_weights(description, random()), quant));
    std::vector<TokenId> prompt{1};
    for (std::uint64_t count = 20 + random() % 80; prompt.size() < count;)
      prompt.push_back(static_cast<TokenId>(random() % tests::kTinyVocab));
    for (const auto& sampling :
         {runtime::SamplingOptions{.temperature = 0}, runtime::SamplingOptions{.temperature = 1.3,
                                                      .seed = random(),
                                                      .repeat_penalty = 1.1,
                                                      .presence_penalty = 0.2,
                                                      .frequency_penalty = 0.1}}) {
      const auto expected = execute(model, kv, {1, 512, false, false}, prompt, sampling, {});
      const Way ways[] = {{2, 512, false, false}, {3, 1 + random() % 40, false, false},
                          {2, 512, true, false},  {1, 7, false, true},
                          {3, 64, false, true},   {2, 64, true, true}};
      for (const Way& way : ways) {
        CAPTURE(way.threads);
        CAPTURE(way.chunk);
        CHECK(execute(model, kv, way, prompt, sampling, folder / "cache") == expected);
      }
    }
  }
}
