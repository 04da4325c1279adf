#include "runtime/sampler.h"

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

}  // namespace

TEST_CASE("greedy takes the largest, of equal ones the lowest id") {
  Sampler sampler({.temperature = 0});
  CHECK(sampler.sample(std::vector<float>{1, 3, 3, 2}) == 1);
}

TEST_CASE("at temperature 1 tokens come as often as their probability says") {
  const auto drawn = draw({.temperature = 1, .top_p = 1, .seed = 5}, kLogits, 20000);
  // Five standard deviations of a binomial count.
  for (const auto& [id, share] : {std::pair{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}})
    CHECK(std::fabs(drawn.at(id) - 20000 * share) < 5 * std::sqrt(20000 * share * (1 - share)));
}

TEST_CASE("top-k, top-p and min-p leave out what they should") {
  CHECK(draw({.temperature = 1, .top_p = 1, .top_k = 2}, kLogits, 500).size() == 2);
  CHECK(draw({.temperature = 1, .top_p = 0.6}, kLogits, 500).size() == 2);  // 0.4 + 0.3 reaches 0.6
  CHECK(draw({.temperature = 1, .top_p = 0.75}, kLogits, 500).size() == 3);
  CHECK(draw({.temperature = 1, .top_p = 1, .min_p = 0.6}, kLogits, 500).size() == 2);  // below 0.24 goes
  CHECK(draw({.temperature = 1, .top_p = 0.0001}, kLogits, 50).size() == 1);
}

TEST_CASE("a seed gives the same tokens again, another seed others") {
  const auto sequence = [](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .top_p = 1, .seed = seed});
    std::vector<TokenId> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.sample(kLogits));
    return ids;
  };
  CHECK(sequence(1) == sequence(1));
  CHECK(sequence(1) != sequence(2));
}
