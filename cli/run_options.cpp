// The options of run in groups, and what has to be known before a session is made: the prompt and the
// context. Limits that CLI11 cannot express, such as options that need each other's value, are in
// require_sensible().

#include "cli/run_options.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "cli/chat_options.h"
#include "cli/proofs.h"
#include "cli/routing_log.h"
#include "cli/standard_input.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

// The longest context without --context, for a model of which no manifest says what it was trained for.
constexpr std::uint64_t kDefaultContextMax = 32768;
// Room for text that is to go on until the model ends it.
constexpr std::uint64_t kUnlimitedTextTokens = 4096;
// 64 MiB of text are far more tokens than a context holds.
constexpr std::uint64_t kPromptBytesMax = 64u << 20;
constexpr std::uint64_t kCountMax = 1u << 30;

void declare_prompt(Options& options, RunOptions& values) {
  options.group("Prompt");
  options.add_text("-p,--prompt TEXT", values.prompt, "Prompt, passed to the model as it is");
  options.add_text("-f,--file FILE", values.prompt_file,
                   "Read the prompt from FILE; - reads standard input, and so does a pipe without -p and -f");
  options.exclude("--file", "--prompt");
  options.add_flag("--chat", values.chat,
                   "Send the prompt as a user's message, in the format that the model was trained on");
  options.add_text("--system TEXT", values.system, "System prompt, with --chat or in a conversation");
  options.add_list("--chat-var NAME=VALUE", values.chat_variables,
                   "Give the chat template a variable, such as enable_thinking=false");
  options.add_flag("--hide-thinking", values.hide_thinking, "Do not show the thinking in a conversation");
  options.add_flag("--special", values.special,
                   "Turn control tokens that the prompt spells, such as <|im_end|>, into control tokens");
  options.exclude("--special", "--chat");
  options.add_text("--prompt-cache FILE", values.prompt_cache,
                   "Save and reuse the prompt's KV cache in FILE");
}

void declare_sampling(Options& options, RunOptions& values) {
  auto& sampling = values.sampling;
  options.group("Sampling");
  options.add_number("--temperature T", sampling.temperature, 0, 100,
                     "Sampling temperature; 0 always takes the most likely token");
  options.add_number("--top-p P", sampling.top_p, 0, 1,
                     "Nucleus sampling: keep the smallest set of tokens with this probability mass");
  options.add_integer("--top-k K", std::to_string(sampling.top_k), -1, kCountMax,
                      "Keep the K most likely tokens; 0 or -1 keeps all", [&sampling](std::uint64_t count) {
                        sampling.top_k = count == static_cast<std::uint64_t>(-1) ? 0 : count;
                      });
  options.add_number("--min-p P", sampling.min_p, 0, 1,
                     "Drop tokens less likely than P times the most likely one");
  options.add_seed(values.seed,
                   "Random seed; the same seed gives the same text (default: -1, random, printed)");
  options.add_number("--repeat-penalty X", sampling.repeat_penalty, 0.01, 100,
                     "Make tokens that occurred less likely by this factor; 1 is off");
  options.add_number("--presence-penalty X", sampling.presence_penalty, -100, 100,
                     "Subtract X from the logits of tokens that occurred");
  options.add_number("--frequency-penalty X", sampling.frequency_penalty, -100, 100,
                     "Subtract X for each time that a token occurred");
  options.add_integer("--repeat-last-n N", sampling.repeat_last_n, -1, kCountMax,
                      "Number of last tokens that the penalties look at; -1 for all");
}

void declare_output(Options& options, RunOptions& values) {
  options.group("Output");
  options.add_integer("-n,--tokens N", values.tokens_max, -1, kCountMax,
                      "Number of tokens to generate at most; -1 for until the model ends the text");
  options.add_list("--stop TEXT", values.stop_texts, "End the generated text before TEXT");
  options.add_flag("--stats", values.stats,
                   "Print on stderr how tokens were routed to experts, and what verification cost");
  options.add_text("--trace FILE", values.trace,
                   "Write the experts that each token chose to FILE, as JSON lines");
  options.add_flag("--overwrite", values.overwrite,
                   "Let --trace, --prompt-cache and /save replace files of another kind");
}

void declare_model(Options& options, RunOptions& values) {
  options.group("Model, memory and threads");
  options.add_quant(values.model.quant);
  declare_verify(options, values.verify);
  options.add_integer(
      "--context N", values.context_tokens, 1, kCountMax,
      "Context size in tokens, for prompt and text (default: as needed, at most what the model "
      "was trained for)");
  options.add_kv(values.kv);
  options.add_model_memory(values.memory_bytes);
  options.add_threads(values.model.thread_count);
}

}  // namespace

void declare(Options& options, RunOptions& values) {
  options.add_model(values.model.model);
  declare_prompt(options, values);
  declare_sampling(options, values);
  declare_output(options, values);
  declare_model(options, values);
  declare_network(options, values.network);
  options.add_note(
      "At a terminal and without a prompt, run is a conversation; /help there lists its commands.");
  options.add_note(
      "Standard output gets the prompt and then the text; --chat and --quiet leave the prompt out. On a "
      "terminal, "
      "control characters of both are replaced; in a file or pipe they stay as they are.");
}

void note_given(const Options& options, const Console& console, RunOptions& values) {
  values.tokens_given = options.is_given("--tokens");
  for (const char* name : {"--temperature", "--top-p", "--top-k", "--min-p"})
    values.sampling_given |= options.is_given(name);
  values.conversation =
      !values.prompt && values.prompt_file.empty() && !has_piped_input() && can_converse(console);
}

std::string read_prompt(const RunOptions& values, const std::stop_token& stop) {
  if (values.prompt) return *values.prompt;
  // `echo TEXT | sluice run MODEL` reads the prompt, as ollama does. A trailing newline is the shell's and no
  // part of the text.
  if (values.prompt_file.empty() && has_piped_input()) {
    std::string prompt = read_standard_input(kPromptBytesMax, stop);
    if (prompt.ends_with('\n')) prompt.pop_back();
    if (!prompt.empty()) return prompt;
  }
  if (values.prompt_file.empty())
    throw base::Error(base::ErrorKind::usage,
                      "no prompt: give -p TEXT, -f FILE or a pipe (sluice run --help)");
  if (values.prompt_file == "-") return read_standard_input(kPromptBytesMax, stop);
  return base::read_text_file(values.prompt_file, kPromptBytesMax);
}

void require_sensible(const RunOptions& values) {
  const auto refuse = [](const std::string& what) {
    throw base::Error(base::ErrorKind::usage, what + " (sluice run --help)");
  };
  if (values.tokens_max == 0) refuse("--tokens must not be 0");
  const bool chats = values.chat || values.conversation;
  if (!values.system.empty() && !chats) refuse("--system needs --chat");
  if (!values.chat_variables.empty() && !chats) refuse("--chat-var needs --chat");
  static_cast<void>(parse_chat_variables(values.chat_variables));
  if (values.hide_thinking && !values.conversation)
    refuse("--hide-thinking is for conversations: a terminal, and no prompt");
  if (values.conversation) {
    // These belong to one prompt and its text.
    if (!values.trace.empty()) refuse("--trace needs a prompt");
    if (!values.prompt_cache.empty()) refuse("--prompt-cache needs a prompt");
    if (values.special) refuse("--special needs a prompt");
  }
  if (std::ranges::find(values.stop_texts, std::string()) != values.stop_texts.end())
    refuse("--stop: the text is empty");
  if (values.overwrite && values.trace.empty() && values.prompt_cache.empty() && !values.conversation)
    refuse("--overwrite needs --trace or --prompt-cache");
  // A prompt cache outlives this run. States that unverified weights gave would be used by later runs that do
  // verify.
  if (!values.prompt_cache.empty() && values.verify == "off")
    refuse("--prompt-cache keeps nothing that was computed with --verify off");
}

void require_outputs(const RunOptions& values, const std::filesystem::path& model) {
  namespace fs = std::filesystem;
  base::InputFiles inputs = library::input_files(model);
  if (!values.prompt_file.empty() && values.prompt_file != "-") inputs.add(values.prompt_file);
  const auto require = [&](const std::string& path, const std::string& option,
                           std::function<std::string(const fs::path&)> problem) {
    base::require_output(
        path,
        {.inputs = inputs, .problem = std::move(problem), .overwrite = values.overwrite, .option = option});
  };
  if (!values.trace.empty()) {
    require(values.trace, "--trace",
            [](const fs::path& path) -> std::string { return is_trace(path) ? "" : "is no routing trace"; });
  }
  if (!values.prompt_cache.empty()) {
    require(values.prompt_cache, "--prompt-cache", [](const fs::path& path) -> std::string {
      return runtime::is_prompt_cache_file(path) ? "" : "is no prompt cache";
    });
  }
  // Both may be new, so there is no inode to compare yet.
  const auto place = [](const std::string& path) {
    return fs::weakly_canonical(fs::absolute(base::output_target(path)));
  };
  if (!values.trace.empty() && !values.prompt_cache.empty() &&
      place(values.trace) == place(values.prompt_cache)) {
    throw base::Error(base::ErrorKind::usage,
                      values.trace + ": --trace and --prompt-cache name the same file");
  }
}

Budget plan_context(const RunOptions& values, std::optional<std::uint64_t> trained_tokens,
                    std::uint64_t prompt_tokens, Console& console) {
  const bool unlimited = values.tokens_max < 0;
  // Without a limit of tokens the text may fill the given context, or else the usual length.
  const std::uint64_t tokens_max = !unlimited ? static_cast<std::uint64_t>(values.tokens_max)
                                              : values.context_tokens.value_or(kUnlimitedTextTokens) + 1;
  // The last token is sampled and never fed (run_options.h), so it needs no place. checked_add() keeps a huge
  // --tokens from wrapping around.
  const std::uint64_t needed =
      base::checked_add(prompt_tokens, tokens_max - 1).value_or(std::numeric_limits<std::uint64_t>::max());
  const std::uint64_t context =
      values.context_tokens.value_or(std::min(needed, trained_tokens.value_or(kDefaultContextMax)));
  // This is only a warning, because the user has asked for this context and the runtime can compute it.
  if (trained_tokens && context > *trained_tokens) {
    console.warn("a context of " + std::to_string(context) + " tokens is more than the " +
                 std::to_string(*trained_tokens) + " that the model was trained for");
  }
  if (prompt_tokens > context) {
    base::throw_malformed("prompt", "has " + std::to_string(prompt_tokens) + " tokens, the context holds " +
                                        std::to_string(context) + "; raise it with --context");
  }
  // Who asked for a number of tokens is told that they do not fit; without a number nothing was promised.
  if (needed > context && !unlimited) {
    console.warn("the context of " + std::to_string(context) + " tokens ends the text after " +
                 std::to_string(context - prompt_tokens + 1) + " tokens");
  }
  return {context, std::min(tokens_max, context - prompt_tokens + 1)};
}

}  // namespace sluice::cli
