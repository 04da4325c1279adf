#pragma once
// A conversation at the terminal: `sluice run MODEL` without a prompt.

#include <cstdint>
#include <filesystem>
#include <optional>

#include "cli/commands.h"
#include "cli/run_options.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// Reads messages and commands, and answers, until the person ends it; returns the exit code. `path` is the
/// model's file. Error{interrupted} after SIGTERM.
int converse(const RunOptions& values, const runtime::Model& model, const std::filesystem::path& path,
             std::optional<std::uint64_t> trained_tokens, const Invocation& invocation);

}  // namespace sluice::cli
