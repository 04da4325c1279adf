// Decoding several sequences together against one alone, by turns in one engine.
//
//   batch_speed MODEL.sluice [--sequences 8] [--threads 2] [--prompt 64] [--steps 8] [--rounds 7] [--isa
//   avx2]
//
// Sequences have different random prompts. In each round one of them decodes alone for some steps, then all
// do together; the numbers are medians over the rounds. Also printed: how many different experts the rows of
// a step chose, on average over layers and steps, which bounds what sharing the experts' bytes can give.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"
#include "runtime/runtime.h"

namespace {

using namespace sluice;
using runtime::TokenId;

struct Arguments {
  std::string model;
  runtime::Isa isa = runtime::detect_isa();
  std::map<std::string, std::uint64_t> values = {
      {"--sequences", 8}, {"--threads", 2}, {"--prompt", 64}, {"--steps", 8}, {"--rounds", 7}};

  Arguments(int count, char** words) {
    for (int i = 1; i < count; ++i) {
      const std::string word = words[i];
      const auto option = values.find(word);
      if (option != values.end() && i + 1 < count) {
        option->second = std::stoull(words[++i]);
      } else if (word == "--isa" && i + 1 < count) {
        const auto parsed = runtime::parse_isa(words[++i]);
        if (!parsed || !runtime::is_supported(*parsed))
          throw base::Error(base::ErrorKind::usage, "this CPU has no '" + std::string(words[i]) + "'");
        isa = *parsed;
      } else if (model.empty() && !word.starts_with("-")) {
        model = word;
      } else {
        throw base::Error(base::ErrorKind::usage, "unexpected argument '" + word + "'");
      }
    }
    if (model.empty()) throw base::Error(base::ErrorKind::usage, "the model is missing");
  }
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

TokenId most_likely(std::span<const float> logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

/// A sequence that decodes greedily.
struct Decoding {
  runtime::Sequence sequence;
  TokenId next = 0;
};

/// Decodes one token of each; returns the seconds that it took.
double step(runtime::Engine& engine, std::span<Decoding> decodings) {
  std::vector<runtime::StepInput> inputs;
  for (Decoding& d : decodings) inputs.push_back({&d.sequence, {&d.next, 1}});
  const base::Stopwatch watch;
  const auto logits = engine.step(inputs);
  const double seconds = watch.seconds();
  for (std::size_t i = 0; i < decodings.size(); ++i) decodings[i].next = most_likely(logits[i]);
  return seconds;
}

void measure(const Arguments& arguments) {
  const auto model = runtime::Model::open(arguments.model, {.verify = runtime::Verify::off});
  const auto& values = arguments.values;
  const std::uint64_t sequence_count = values.at("--sequences");
  const std::uint64_t context = values.at("--prompt") + values.at("--steps") * values.at("--rounds") * 2 + 1;
  runtime::EngineOptions options;
  options.thread_count = static_cast<unsigned>(values.at("--threads"));
  options.context_tokens = context;
  options.isa = arguments.isa;
  runtime::Engine probe(model, options);
  options.kv_budget_bytes = probe.kv_pages().total * probe.kv_pages().page_bytes * sequence_count;
  runtime::Engine engine(model, options);

  std::map<std::uint64_t, std::set<std::uint32_t>> chosen;  // by layer, within a step
  std::vector<Decoding> decodings;
  std::mt19937_64 random(1);
  for (std::uint64_t i = 0; i < sequence_count; ++i) {
    decodings.push_back({runtime::Sequence(engine, {.on_routing = [&](const runtime::RoutingEvent& event) {
                                             chosen[event.layer].insert(event.experts.begin(),
                                                                        event.experts.end());
                                           }})});
    std::vector<TokenId> prompt(values.at("--prompt"));
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % model.description().vocabulary);
    const runtime::StepInput input{&decodings.back().sequence, prompt};
    decodings.back().next = most_likely(engine.step({&input, 1})[0]);
  }

  std::vector<double> alone, together;
  double experts = 0;
  std::uint64_t layer_steps = 0;
  for (std::uint64_t round = 0; round < values.at("--rounds"); ++round) {
    double seconds = 0;
    for (std::uint64_t i = 0; i < values.at("--steps"); ++i)
      seconds += step(engine, std::span(decodings).subspan(round % sequence_count, 1));
    alone.push_back(static_cast<double>(values.at("--steps")) / seconds);
    seconds = 0;
    for (std::uint64_t i = 0; i < values.at("--steps"); ++i) {
      chosen.clear();
      seconds += step(engine, decodings);
      for (const auto& [layer, set] : chosen) experts += static_cast<double>(set.size()), ++layer_steps;
    }
    together.push_back(static_cast<double>(values.at("--steps") * sequence_count) / seconds);
  }
  std::printf("one sequence     %8.2f tokens/s\n", median(alone));
  std::printf("%llu sequences      %8.2f tokens/s together, %.2f times as many\n",
              static_cast<unsigned long long>(sequence_count), median(together),
              median(together) / median(alone));
  if (layer_steps > 0)
    std::printf("experts          %8.2f different ones a layer and step\n",
                experts / static_cast<double>(layer_steps));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    measure(Arguments(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "batch_speed: %s\n", error.what());
    return 1;
  }
}
