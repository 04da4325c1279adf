#include "runtime/generate/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <vector>

using namespace sluice::runtime;

namespace {

std::map<TokenId, int> draw(const SamplingOptions& options, const std::vector<float>& logits, int count) {
  Sampler sampler(options);
  std::map<TokenId, int> drawn;
  for (int i = 0; i < count; ++i) ++drawn[sampler.sample(logits)];
  return drawn;
}

const std::vector<float> kLogits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

// Computed by a Mersenne Twister and a softmax written in Python.
const std::vector<TokenId> kVectorTopP = {32, 32, 177, 81, 15, 43, 47, 292};
const std::vector<TokenId> kVectorTopK = {145, 145, 275, 15, 162, 292, 162, 81};

}  // namespace

TEST_CASE("greedy sampling takes the largest logit, and the lowest id among equals") {
  Sampler sampler({.temperature = 0});
  CHECK(sampler.sample(std::vector<float>{1, 3, 3, 2}) == 1);
}

TEST_CASE("at temperature 1 a token is drawn as often as its probability says") {
  const auto drawn = draw({.temperature = 1, .top_p = 1, .seed = 5}, kLogits, 20000);
  // Five standard deviations of a binomial count.
  for (const auto& [id, share] : {std::pair{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}})
    CHECK(std::fabs(drawn.at(id) - 20000 * share) < 5 * std::sqrt(20000 * share * (1 - share)));
}

TEST_CASE("top-k, top-p and min-p leave out the less likely tokens") {
  CHECK(draw({.temperature = 1, .top_p = 1, .top_k = 2}, kLogits, 500).size() == 2);
  CHECK(draw({.temperature = 1, .top_p = 0.6}, kLogits, 500).size() == 2);  // 0.4 + 0.3 reaches 0.6
  CHECK(draw({.temperature = 1, .top_p = 0.75}, kLogits, 500).size() == 3);
  CHECK(draw({.temperature = 1, .top_p = 1, .min_p = 0.6}, kLogits, 500).size() == 2);  // below 0.24 goes
  CHECK(draw({.temperature = 1, .top_p = 0.0001}, kLogits, 50).size() == 1);
}

TEST_CASE("the same seed gives the same tokens, another seed gives others") {
  const auto sequence = [](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .top_p = 1, .seed = seed});
    std::vector<TokenId> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.sample(kLogits));
    return ids;
  };
  CHECK(sequence(1) == sequence(1));
  CHECK(sequence(1) != sequence(2));
}

TEST_CASE("a seed gives these tokens on every machine") {
  std::vector<float> logits(300);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 7919) % 211) * 0.05f;
  const auto drawn = [&](const SamplingOptions& options) {
    Sampler sampler(options);
    std::vector<TokenId> ids;
    for (int i = 0; i < 8; ++i) ids.push_back(sampler.sample(logits));
    return ids;
  };
  CHECK(drawn({.temperature = 0.9, .top_p = 0.95, .seed = 1}) == kVectorTopP);
  CHECK(drawn({.temperature = 1.5, .top_p = 0.9, .top_k = 12, .min_p = 0.02, .seed = 2}) == kVectorTopK);
}

TEST_CASE("penalties change the logits of accepted tokens, by their formulas") {
  const std::vector<float> logits = {2.0f, 1.9f, -1.0f, -1.05f};
  const auto greedy = [&](SamplingOptions options, const std::vector<TokenId>& before) {
    options.temperature = 0;
    Sampler sampler(options);
    for (const TokenId id : before) sampler.accept(id);
    return sampler.sample(logits);
  };
  CHECK(greedy({}, {0, 0, 0}) == 0);
  CHECK(greedy({.repeat_penalty = 1.04}, {0}) == 0);  // 1.923 is still above 1.9
  CHECK(greedy({.repeat_penalty = 1.06}, {0}) == 1);  // 1.887
  CHECK(greedy({.presence_penalty = 0.2}, {0, 0}) == 1);
  CHECK(greedy({.frequency_penalty = 0.06}, {0}) == 0);                         // 1.94
  CHECK(greedy({.frequency_penalty = 0.06}, {0, 0}) == 1);                      // 1.88
  CHECK(greedy({.presence_penalty = 10, .repeat_last_n = 2}, {0, 3, 3}) == 0);  // token 0 has left the window
  CHECK(greedy({.presence_penalty = 10, .repeat_last_n = 3}, {0, 3, 3}) == 1);
  CHECK(greedy({.presence_penalty = 10, .repeat_last_n = -1}, std::vector<TokenId>(5000, 0)) == 1);
  CHECK(greedy({.presence_penalty = 10, .repeat_last_n = 0}, {0}) == 0);
  // A negative logit is multiplied: -1 x 1.1 is below -1.05.
  Sampler sampler({.temperature = 0, .repeat_penalty = 1.1});
  sampler.accept(0);
  CHECK(sampler.sample(std::vector<float>{-1.0f, -1.05f}) == 1);
}
