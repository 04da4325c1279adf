// The choice of experts by every form of router, compared with computed examples and with plain loops.

#include "runtime/forward/router.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "runtime/kernels/isa.h"

using namespace sluice;
using format::GroupScore;
using format::Router;
using format::RouterGroups;
using format::RouterScore;
using runtime::ExpertChooser;

namespace {

using Choice = std::vector<std::pair<std::uint32_t, double>>;

struct Chosen {
  Choice experts;
  float margin = 0;
};

Chosen choose(const Router& router, const std::vector<float>& logits, const std::vector<float>& bias,
              std::size_t count, runtime::Isa isa = runtime::Isa::generic) {
  ExpertChooser chooser;
  chooser.reserve(logits.size(), count);
  std::vector<std::uint32_t> experts(count);
  std::vector<float> weights(count);
  chooser.choose(runtime::kernels_for(isa), router, logits, bias.empty() ? nullptr : bias.data(), experts,
                 weights);
  Chosen chosen;
  for (std::size_t i = 0; i < count; ++i)
    chosen.experts.emplace_back(experts[i], static_cast<double>(weights[i]));
  if (count < logits.size()) chosen.margin = chooser.margin(logits.size());
  return chosen;
}

void check_close(const Choice& found, const Choice& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].first == expected[i].first);
    CHECK(found[i].second == doctest::Approx(expected[i].second).epsilon(2e-6));
  }
}

const std::vector<float> kLogits{0.3f, -1.2f, 2.0f, 0.5f, 1.1f, -0.4f, 0.0f, 1.9f};
const std::vector<float> kBias{0, 0.5f, -0.6f, 0.2f, 0, 0.6f, 0, -0.3f};

/// Chooses in double, straight from the definitions. Experts of dropped groups have rank -infinity.
Choice expected_choice(const Router& router, const std::vector<float>& logits, const std::vector<float>& bias,
                       std::size_t count) {
  const std::size_t n = logits.size();
  std::vector<double> score(n);
  double sum = 0;
  for (std::size_t e = 0; e < n; ++e) sum += std::exp(static_cast<double>(logits[e]));
  for (std::size_t e = 0; e < n; ++e) {
    const double z = static_cast<double>(logits[e]);
    score[e] = router.score == RouterScore::softmax ? std::exp(z) / sum : 1 / (1 + std::exp(-z));
  }
  std::vector<double> rank = score;
  for (std::size_t e = 0; e < bias.size(); ++e) rank[e] += static_cast<double>(bias[e]);
  if (router.groups) {
    const std::size_t width = n / router.groups->groups;
    std::vector<std::pair<double, std::size_t>> groups;
    for (std::size_t g = 0; g < router.groups->groups; ++g) {
      std::vector<double> of_group(rank.begin() + static_cast<std::ptrdiff_t>(g * width),
                                   rank.begin() + static_cast<std::ptrdiff_t>((g + 1) * width));
      std::ranges::sort(of_group, std::greater());
      groups.emplace_back(router.groups->score == GroupScore::best ? of_group[0] : of_group[0] + of_group[1],
                          g);
    }
    std::ranges::sort(groups, std::greater());
    for (std::size_t i = router.groups->kept; i < groups.size(); ++i)
      std::fill_n(rank.begin() + static_cast<std::ptrdiff_t>(groups[i].second * width), width, -INFINITY);
  }
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) { return rank[a] > rank[b]; });
  double chosen_sum = 0;
  for (std::size_t i = 0; i < count; ++i) chosen_sum += score[order[i]];
  Choice choice;
  for (std::size_t i = 0; i < count; ++i)
    choice.emplace_back(
        order[i],
        score[order[i]] / (router.renormalise ? chosen_sum + router.renormalise_epsilon : 1) * router.scale);
  return choice;
}

}  // namespace

TEST_CASE("softmax routers, with and without renormalised weights") {
  check_close(choose({}, kLogits, {}, 2).experts, {{2, 0.335117}, {7, 0.303226}});
  check_close(choose({.renormalise = true, .groups = {}}, kLogits, {}, 2).experts,
              {{2, 0.524979}, {7, 0.475021}});
}

TEST_CASE("a sigmoid router chooses by biased scores and weighs by unbiased ones") {
  const Router router{
      .score = RouterScore::sigmoid, .renormalise = true, .selection_bias = true, .groups = {}, .scale = 2.5};
  check_close(choose(router, kLogits, kBias, 2).experts, {{5, 0.979985}, {3, 1.520015}});
  Router grouped = router;
  grouped.groups = RouterGroups{4, 2, GroupScore::best_two};
  check_close(choose(grouped, kLogits, kBias, 2).experts, {{5, 0.871227}, {4, 1.628773}});
}

TEST_CASE("the summand of renormalised weights") {
  // Both sigmoids are 2.06115e-9, so that the sum is 4.1223e-9.
  Router router{.score = RouterScore::sigmoid, .renormalise = true, .groups = {}};
  check_close(choose(router, {-20, -30, -20}, {}, 2).experts, {{0, 0.5}, {2, 0.5}});
  router.renormalise_epsilon = 1e-6;
  check_close(choose(router, {-20, -30, -20}, {}, 2).experts, {{0, 0.00205269}, {2, 0.00205269}});
  // A softmax: 0.335117 and 0.303226 divided by 1.638343.
  router = {.renormalise = true, .groups = {}, .renormalise_epsilon = 1};
  check_close(choose(router, kLogits, {}, 2).experts, {{2, 0.204546}, {7, 0.185081}});
}

TEST_CASE("groups by their best expert") {
  const Router router{.groups = RouterGroups{4, 2, GroupScore::best}, .scale = 16};
  check_close(choose(router, kLogits, {}, 3).experts, {{2, 5.361865}, {7, 4.851616}, {3, 1.196394}});
}

TEST_CASE("equal experts are chosen by their index, and all can be chosen") {
  const std::vector<float> equal(5, 1.5f);
  const auto two = choose({.renormalise = true, .groups = {}}, equal, {}, 2);
  check_close(two.experts, {{0, 0.5}, {1, 0.5}});
  CHECK(two.margin == 0);
  check_close(choose({.renormalise = true, .groups = {}}, {1, 2}, {}, 2).experts,
              {{1, 0.7310586}, {0, 0.2689414}});
  // Sigmoids of such logits are all 1; the choice still follows the logits.
  const Router sigmoid{.score = RouterScore::sigmoid, .renormalise = true, .groups = {}};
  check_close(choose(sigmoid, {40, 60, 50}, {}, 2).experts, {{1, 0.5}, {2, 0.5}});
}

TEST_CASE("the margin is how far the last chosen one was better, by what was compared") {
  CHECK(choose({}, kLogits, {}, 2).margin == doctest::Approx(0.8));
  const Router router{
      .score = RouterScore::sigmoid, .renormalise = true, .selection_bias = true, .groups = {}};
  CHECK(choose(router, kLogits, kBias, 1).margin == doctest::Approx(1.001312 - 0.822459).epsilon(1e-5));
}

TEST_CASE("any router gives what its definition says, and the same bits on every instruction set") {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 200; ++round) {
    Router router;
    router.score = random() % 2 == 0 ? RouterScore::softmax : RouterScore::sigmoid;
    router.renormalise = random() % 2 == 0;
    if (random() % 3 == 0) router.renormalise_epsilon = 1e-3;
    router.selection_bias = random() % 2 == 0;
    router.scale = random() % 2 == 0 ? 1 : 2.5;
    const std::size_t group_count = 1 + random() % 5;
    const std::size_t group_width = 2 + random() % 30;
    const std::size_t experts = group_count * group_width;
    std::size_t most = experts;
    if (random() % 2 == 0) {
      const std::uint64_t kept = 1 + random() % group_count;
      router.groups =
          RouterGroups{group_count, kept, random() % 2 == 0 ? GroupScore::best : GroupScore::best_two};
      most = kept * group_width;
    }
    const std::size_t count = 1 + random() % std::min<std::size_t>(most, 12);
    std::vector<float> logits(experts), bias(router.selection_bias ? experts : 0);
    for (float& z : logits) z = normal(random) * 2;
    for (float& b : bias) b = normal(random) * 0.1f;
    const Chosen found = choose(router, logits, bias, count);
    CAPTURE(round);
    check_close(found.experts, expected_choice(router, logits, bias, count));
    for (const runtime::Isa isa : runtime::kIsas) {
      if (!runtime::is_supported(isa)) continue;
      const Chosen other = choose(router, logits, bias, count, isa);
      CHECK(other.experts == found.experts);
      CHECK(other.margin == found.margin);
    }
  }
}
