#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/proofs.h"
#include "cli/routing_log.h"
#include "cli/table.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

using format::Json;

// The context that is taken without --context, at most.
constexpr std::uint64_t kDefaultContextMax = 32768;
constexpr std::uint64_t kPromptBytesMax = 64u << 20;

struct RunOptions {
  ModelRequest model;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::uint64_t tokens_max = 128;
  runtime::SamplingOptions sampling;
  std::optional<std::uint64_t> seed;
  std::optional<std::uint64_t> context_tokens;
  std::string kv;
  std::string trace;
  std::string verify = "first-use";
  bool stats = false;
};

void declare(Options& options, RunOptions& values) {
  auto& app = options.app();
  auto& sampling = values.sampling;
  app.add_option("MODEL", values.model.model,
                 ".sluice file, release folder, release name, magnet link or URL of a .torrent")
      ->required();
  auto* prompt = app.add_option("-p,--prompt", values.prompt, "The prompt, taken as it is");
  app.add_option("-f,--file", values.prompt_file, "Read the prompt from this file, - for standard input")
      ->excludes(prompt);
  app.add_option("-n,--tokens", values.tokens_max, "Tokens to generate at the most (default: 128)")
      ->check(CLI::Range(1, 1 << 30));
  options.add_number("--temperature", sampling.temperature, 0, 100,
                     "0 takes the most likely token (default: 0.7)");
  options.add_number("--top-p", sampling.top_p, 0, 1,
                     "Sample from the most likely tokens of this mass (default: 0.95)");
  app.add_option("--top-k", sampling.top_k, "Sample from so many most likely tokens, 0 for all (default: 0)")
      ->check(CLI::NonNegativeNumber);
  options.add_number("--min-p", sampling.min_p, 0, 1,
                     "Leave out tokens below this share of the best's (default: 0)");
  app.add_option("--seed", values.seed, "For the same text again (default: a random one, which is printed)")
      ->check(CLI::NonNegativeNumber);
  options.add_threads(values.model.thread_count);
  app.add_option("--context", values.context_tokens,
                 "Tokens that prompt and text may have (default: what they need, at most 32768)")
      ->check(CLI::Range(1, 1 << 30));
  options.add_kv(values.kv);
  app.add_option("--trace", values.trace, "Write which experts each token chose to this file");
  app.add_flag("--stats", values.stats, "Show how the tokens were routed, as a table, and what proofs cost");
  declare_verify(options, values.verify);
  options.add_quant(values.model.quant, "When the model is to be converted first: q4 (default), q8 or bf16");
  declare_network(options, values.model.network);
}

// Looks at `stop` while nothing comes, so that Ctrl-C ends it at a terminal.
std::string read_standard_input(const std::stop_token& stop) {
  constexpr int kPollMs = 100;
  std::string text;
  std::array<char, 1 << 16> buffer{};
  while (true) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    struct pollfd input {
      STDIN_FILENO, POLLIN, 0
    };
    if (::poll(&input, 1, kPollMs) <= 0) continue;  // nothing yet, or a signal
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0) base::throw_errno("standard input", "read", errno);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > kPromptBytesMax) base::throw_malformed("standard input", "the prompt has over 64 MiB");
  }
}

std::string read_prompt(const RunOptions& values, const std::stop_token& stop) {
  if (values.prompt) return *values.prompt;
  if (values.prompt_file.empty()) {
    throw base::Error(base::ErrorKind::usage, "sluice run: a prompt is missing: give -p TEXT or -f FILE");
  }
  if (values.prompt_file == "-") return read_standard_input(stop);
  return base::read_text_file(values.prompt_file, kPromptBytesMax);
}

// What the session can hold, and how many tokens may be generated in it. The last token that is generated is
// not fed any more, so it needs no place.
struct Budget {
  std::uint64_t context_tokens = 0;
  std::uint64_t tokens_max = 0;
};

Budget plan_context(const RunOptions& values, std::uint64_t prompt_tokens, Console& console) {
  const std::uint64_t needed = base::checked_add(prompt_tokens, values.tokens_max - 1)
                                   .value_or(std::numeric_limits<std::uint64_t>::max());
  const std::uint64_t context = values.context_tokens.value_or(std::min(needed, kDefaultContextMax));
  if (prompt_tokens > context) {
    base::throw_malformed("prompt", "has " + std::to_string(prompt_tokens) + " tokens, the context holds " +
                                        std::to_string(context) + "; raise it with --context");
  }
  if (needed > context) {
    console.warn("the context of " + std::to_string(context) + " tokens ends the text after " +
                 std::to_string(context - prompt_tokens + 1) + " tokens");
  }
  return {context, std::min(values.tokens_max, context - prompt_tokens + 1)};
}

// A text from a model must not steer the terminal that shows it; line ends and tabs stay.
std::string without_controls(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t plain = std::min(text.find_first_of("\n\t"), text.size());
    shown += base::to_printable(text.substr(0, plain));
    if (plain < text.size()) shown += text[plain];
    text.remove_prefix(std::min(plain + 1, text.size()));
  }
  return shown;
}

Json routing_json(const RoutingCounts& counts) {
  Json layers = Json::array();
  for (std::size_t layer = 0; layer < counts.layer_count(); ++layer) {
    Json shares = Json::array();
    for (std::size_t expert = 0; expert < counts.expert_count(); ++expert) {
      shares.push_back(Json(counts.share(layer, expert)));
    }
    layers.push_back(std::move(shares));
  }
  return layers;
}

Json make_result(const runtime::Generation& generation, const std::vector<runtime::TokenId>& prompt,
                 std::uint64_t seed) {
  return Json::object({{"event", "result"},
                       {"prompt_ids", Json::array_of(prompt)},
                       {"ids", Json::array_of(generation.ids)},
                       {"text", generation.text},
                       {"stop", runtime::to_string(generation.stop)},
                       {"seed", seed},
                       {"prefill_tokens_per_s", generation.prefill_tokens_per_s},
                       {"decode_tokens_per_s", generation.decode_tokens_per_s},
                       {"first_token_s", generation.first_token_s},
                       {"peak_rss_bytes", runtime::peak_rss_bytes()}});
}

std::string statistics_line(const runtime::Generation& generation, std::size_t prompt_tokens,
                            const RunOptions& values) {
  std::string line = "[" + std::to_string(prompt_tokens) + " tokens of prompt at " +
                     format_number("%.1f/s", generation.prefill_tokens_per_s) + ", " +
                     std::to_string(generation.ids.size()) + " of text at " +
                     format_number("%.1f/s", generation.decode_tokens_per_s) +
                     format_number(", first after %.2f s", generation.first_token_s) + ", stopped by " +
                     std::string(runtime::to_string(generation.stop));
  if (values.sampling.temperature > 0) line += ", seed " + std::to_string(values.sampling.seed);
  return line + "]";
}

// One prompt on an open model.
class Run {
 public:
  Run(const RunOptions& values, const runtime::Model& model, const Invocation& invocation)
      : values_(values), model_(model), invocation_(invocation), console_(invocation.console) {
    if (!values.trace.empty()) trace_.emplace(values.trace);
    if (values.stats) counts_.emplace(model.params().n_layers, model.params().num_experts);
  }

  int execute(const std::string& prompt) {
    std::vector<runtime::TokenId> ids = {model_.tokenizer().bos()};
    for (const auto id : model_.tokenizer().encode(prompt)) ids.push_back(id);
    const Budget budget = plan_context(values_, ids.size(), console_);
    runtime::Session session(model_, session_options(budget));
    if (!console_.quiet()) show_text(prompt);
    const auto generation = runtime::generate(
        session, model_, ids, budget.tokens_max, values_.sampling,
        [this](runtime::TokenId id, std::string_view text) { show_token(id, text); }, invocation_.stop);
    show_text("\n");
    if (trace_) trace_->finish();
    tell(generation, ids);
    const bool interrupted_early = generation.stop == runtime::StopReason::interrupt;
    return interrupted_early ? base::exit_code(base::ErrorKind::interrupted) : 0;
  }

 private:
  [[nodiscard]] runtime::SessionOptions session_options(const Budget& budget) {
    runtime::SessionOptions options;
    options.thread_count = values_.model.thread_count;
    options.context_tokens = budget.context_tokens;
    options.kv = runtime::parse_kv_type(values_.kv);
    options.isa = forced_isa();
    options.stop = invocation_.stop;
    if (trace_ || counts_) {
      options.on_routing = [this](const runtime::RoutingEvent& event) {
        if (trace_) trace_->add(event);
        if (counts_) counts_->add(event);
      };
    }
    return options;
  }

  void show_text(std::string_view text) {
    if (console_.output_is_terminal()) {
      console_.write(without_controls(text));
    } else {
      console_.write(text);
    }
  }

  void show_token(runtime::TokenId id, std::string_view text) {
    console_.event(Json::object({{"event", "token"}, {"id", id}, {"text", text}}));
    show_text(text);
  }

  void tell(const runtime::Generation& generation, const std::vector<runtime::TokenId>& ids) {
    if (counts_) {
      console_.write(format_routing_table(*counts_, console_.color()));
      console_.write(proofs_line(model_.proof_stats()) + "\n");
    }
    console_.note(statistics_line(generation, ids.size(), values_));
    Json result = make_result(generation, ids, values_.sampling.seed);
    if (counts_) {
      result.set("routing", routing_json(*counts_));
      result.set("proofs", proofs_json(model_.proof_stats()));
    }
    console_.event(result);
  }

  const RunOptions& values_;
  const runtime::Model& model_;
  const Invocation& invocation_;
  Console& console_;
  std::optional<TraceFile> trace_;
  std::optional<RoutingCounts> counts_;
};

}  // namespace

int run_command(const Invocation& invocation) {
  RunOptions values;
  Options options("run", "Executes a prompt; what is missing of fetch, verify and convert is done first.",
                  "sluice run stories-moe -p \"Once upon a time\" -n 200 --stats");
  declare(options, values);
  options.parse(invocation);
  const std::string prompt = read_prompt(values, invocation.stop);
  static_cast<void>(forced_isa());  // a wrong SLUICE_ISA is told before a long conversion, not after it
  // 32 bits: such a seed is the same number in every JSON reader.
  values.sampling.seed = values.seed ? *values.seed : std::random_device()();

  const auto path = prepare_model(values.model, invocation.console, invocation.stop);
  const auto model =
      runtime::Model::open(path, model_options(path, values.verify, values.model.thread_count));
  return Run(values, model, invocation).execute(prompt);
}

}  // namespace sluice::cli
