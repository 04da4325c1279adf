#include "cli/run_options.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/proofs.h"

namespace sluice::cli {
namespace {

// The context that is taken without --context, at most.
constexpr std::uint64_t kDefaultContextMax = 32768;
// Room for text that is to go on until the model ends it.
constexpr std::uint64_t kUnlimitedTextTokens = 4096;
constexpr std::uint64_t kPromptBytesMax = 64u << 20;

void declare_penalties(Options& options, runtime::SamplingOptions& sampling) {
  options.add_number("--repeat-penalty", sampling.repeat_penalty, 0.01, 100,
                     "Makes tokens that were there less likely, by a factor (default: 1, off)");
  options.add_number("--presence-penalty", sampling.presence_penalty, -100, 100,
                     "Taken off the logit of tokens that were there (default: 0)");
  options.add_number("--frequency-penalty", sampling.frequency_penalty, -100, 100,
                     "Taken off for each time that they were there (default: 0)");
  options.app()
      .add_option("--repeat-last-n", sampling.repeat_last_n,
                  "Tokens that the penalties look back on, -1 for all (default: 64)")
      ->check(CLI::Range(-1, 1 << 30));
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

/// The context that the releases of these sizes were made for: 64k for Mixtral 8x22B, 32k for the others.
std::uint64_t trained_context(const format::ModelParams& params) {
  return params.dim == 6144 && params.n_layers == 56 ? 65536 : kDefaultContextMax;
}

}  // namespace

void declare(Options& options, RunOptions& values) {
  auto& app = options.app();
  auto& sampling = values.sampling;
  app.add_option("MODEL", values.model.model,
                 ".sluice file, release folder, release name, magnet link or URL of a .torrent")
      ->required();
  auto* prompt = app.add_option("-p,--prompt", values.prompt, "The prompt, taken as it is");
  app.add_option("-f,--file", values.prompt_file, "Read the prompt from this file, - for standard input")
      ->excludes(prompt);
  app.add_option("-n,--tokens", values.tokens_max,
                 "Tokens to generate at the most, -1 for until the model ends (default: 128)")
      ->check(
          CLI::Range(-1, 1 << 30) &
          CLI::Validator(
              [](const std::string& text) { return text == "0" ? "0 tokens are none" : std::string(); }, ""));
  options.add_list("--stop", values.stop_texts, "Ends the text before this text");
  app.add_flag("--chat", values.chat, "The prompt is an instruction, for models that were tuned to [INST]");
  app.add_option("--system", values.system, "With --chat: what stands before the instruction");
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
  declare_penalties(options, sampling);
  options.add_threads(values.model.thread_count);
  app.add_option("--prompt-cache", values.prompt_cache,
                 "Keep what the prompt was computed to in this file, and use it the next time");
  app.add_option(
         "--context", values.context_tokens,
         "Tokens that prompt and text may have (default: what they need, at most those it was made for)")
      ->check(CLI::Range(1, 1 << 30));
  options.add_kv(values.kv);
  options.add_model_memory(values.memory_bytes);
  app.add_option("--trace", values.trace, "Write which experts each token chose to this file");
  app.add_flag("--stats", values.stats, "Show how the tokens were routed, as a table, and what proofs cost");
  declare_verify(options, values.verify);
  options.add_quant(values.model.quant, "When the model is to be converted first: q4 (default), q8 or bf16");
  declare_network(options, values.model.network);
}

std::string read_prompt(const RunOptions& values, const std::stop_token& stop) {
  if (values.prompt) return *values.prompt;
  if (values.prompt_file.empty()) {
    throw base::Error(base::ErrorKind::usage, "sluice run: a prompt is missing: give -p TEXT or -f FILE");
  }
  if (values.prompt_file == "-") return read_standard_input(stop);
  return base::read_text_file(values.prompt_file, kPromptBytesMax);
}

void require_sensible(const RunOptions& values) {
  const auto refuse = [](const std::string& what) {
    throw base::Error(base::ErrorKind::usage, "sluice run: " + what);
  };
  if (!values.system.empty() && !values.chat) refuse("--system needs --chat");
  if (std::ranges::find(values.stop_texts, std::string()) != values.stop_texts.end())
    refuse("--stop: the text is empty");
  if (!values.prompt_cache.empty() && values.verify == "off")
    refuse("--prompt-cache keeps nothing that was computed with --verify off");
}

Budget plan_context(const RunOptions& values, const format::ModelParams& params, std::uint64_t prompt_tokens,
                    Console& console) {
  const bool unlimited = values.tokens_max < 0;
  // Without a limit all of a given context is used, else as much as is usual.
  const std::uint64_t tokens_max = !unlimited ? static_cast<std::uint64_t>(values.tokens_max)
                                              : values.context_tokens.value_or(kUnlimitedTextTokens) + 1;
  const std::uint64_t needed =
      base::checked_add(prompt_tokens, tokens_max - 1).value_or(std::numeric_limits<std::uint64_t>::max());
  const std::uint64_t trained = trained_context(params);
  const std::uint64_t context = values.context_tokens.value_or(std::min(needed, trained));
  if (context > trained) {
    console.warn("a context of " + std::to_string(context) + " tokens is more than the " +
                 std::to_string(trained) + " that the model was made for");
  }
  if (prompt_tokens > context) {
    base::throw_malformed("prompt", "has " + std::to_string(prompt_tokens) + " tokens, the context holds " +
                                        std::to_string(context) + "; raise it with --context");
  }
  if (needed > context && !unlimited) {
    console.warn("the context of " + std::to_string(context) + " tokens ends the text after " +
                 std::to_string(context - prompt_tokens + 1) + " tokens");
  }
  return {context, std::min(tokens_max, context - prompt_tokens + 1)};
}

}  // namespace sluice::cli
