#pragma once
// The options of `run`, its prompt, and the number of tokens that fit into the context.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "library/library.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// Empty texts and optionals mean "not given". The pairs that exclude each other are checked by Options or by
/// require_sensible().
struct RunOptions {
  library::ModelRequest model;
  NetworkOptions network;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::int64_t tokens_max = 128;  ///< -1: until the model ends the text
  runtime::SamplingOptions sampling;
  std::optional<std::uint64_t> seed;
  std::optional<std::uint64_t> context_tokens;
  std::string kv;
  std::optional<std::uint64_t> memory_bytes;
  std::string trace;
  bool overwrite = false;  ///< of trace and prompt_cache
  std::string verify = "first-use";
  bool stats = false;
  bool chat = false;
  std::string system;
  std::vector<std::string> chat_variables;  ///< NAME=VALUE
  bool hide_thinking = false;
  bool special = false;         ///< control tokens that the prompt spells become control tokens
  bool conversation = false;    ///< no prompt was given, and a person is at the terminal
  bool tokens_given = false;    ///< --tokens
  bool sampling_given = false;  ///< an option that chooses among the likely tokens
  std::vector<std::string> stop_texts;
  std::string prompt_cache;
};

void declare(Options& options, RunOptions& values);

/// Sets the members that say what was given, after Options::parse().
void note_given(const Options& options, const Console& console, RunOptions& values);

/// Error{usage} for options that contradict each other.
void require_sensible(const RunOptions& values);

/// Reads the prompt from -p, a file or standard input. A stop request ends the wait for standard input.
[[nodiscard]] std::string read_prompt(const RunOptions& values, const std::stop_token& stop);

/// Refuses a --trace or --prompt-cache that would destroy something: one that is the model, the prompt's file
/// or the other output, is no regular file, or is a file of another kind and --overwrite is not given.
/// `model` is the model's file, or as the user names it as long as that is not known.
void require_outputs(const RunOptions& values, const std::filesystem::path& model);

/// The size of the context, and how many tokens may be generated in it. The last generated token is not fed
/// to the model, so it takes no place in the context.
struct Budget {
  std::uint64_t context_tokens = 0;
  std::uint64_t tokens_max = 0;
};

/// `trained_tokens`: the longest context that the model was trained for, when that is known. Error{malformed}
/// when the prompt does not fit.
[[nodiscard]] Budget plan_context(const RunOptions& values, std::optional<std::uint64_t> trained_tokens,
                                  std::uint64_t prompt_tokens, Console& console);

}  // namespace sluice::cli
