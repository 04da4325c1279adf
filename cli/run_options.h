#pragma once
// What `run` is told: its options, the prompt, and how many tokens there is room for.

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "format/model_params.h"
#include "library/library.h"
#include "runtime/runtime.h"

namespace sluice::cli {

struct RunOptions {
  library::ModelRequest model;
  NetworkOptions network;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::int64_t tokens_max = 128;
  runtime::SamplingOptions sampling;
  std::optional<std::uint64_t> seed;
  std::optional<std::uint64_t> context_tokens;
  std::string kv;
  std::optional<std::uint64_t> memory_bytes;
  std::string trace;
  std::string verify = "first-use";
  bool stats = false;
  bool chat = false;
  std::string system;
  std::vector<std::string> stop_texts;
  std::string prompt_cache;
};

void declare(Options& options, RunOptions& values);

/// Error{usage} for options that do not go together.
void require_sensible(const RunOptions& values);

/// From -p, a file or standard input, whose wait a stop request ends.
[[nodiscard]] std::string read_prompt(const RunOptions& values, const std::stop_token& stop);

/// What the session can hold, and how many tokens may be generated in it. The last token that is generated is
/// not fed any more, so it needs no place.
struct Budget {
  std::uint64_t context_tokens = 0;
  std::uint64_t tokens_max = 0;
};

/// Error{malformed} when the prompt does not fit.
[[nodiscard]] Budget plan_context(const RunOptions& values, const format::ModelParams& params,
                                  std::uint64_t prompt_tokens, Console& console);

}  // namespace sluice::cli
