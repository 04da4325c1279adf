#pragma once
// The table of subcommands. Each command is one function in a file of its own: it declares its options, calls
// other rooms through their front doors and prints the result. Failures are thrown as base::Error.

#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "cli/console.h"

namespace sluice::cli {

/// The input of every command. Ctrl-C and SIGTERM request a stop of `stop`.
struct Invocation {
  std::vector<std::string> arguments;  ///< after the command's name
  Console& console;
  std::stop_token stop;
};

using CommandFunction = int (*)(const Invocation&);

struct Command {
  std::string_view name;
  std::string_view summary;
  CommandFunction function = nullptr;
  /// The exit code when the reader of stdout closes it, as `| head` does. 0 for commands that only print; the
  /// other commands have not finished their work then.
  int closed_output_exit = 7;
  bool hidden = false;
};

[[nodiscard]] std::span<const Command> commands();

/// Suggests the command that somebody may have meant by an unknown name; empty when no name is near.
[[nodiscard]] std::string suggest_command(std::string_view name);

int fetch_command(const Invocation& invocation);
int fetch_worker_command(const Invocation& invocation);
int verify_command(const Invocation& invocation);
int convert_command(const Invocation& invocation);
int run_command(const Invocation& invocation);
int publish_command(const Invocation& invocation);
int seed_command(const Invocation& invocation);
int keygen_command(const Invocation& invocation);
int sign_command(const Invocation& invocation);
int trust_command(const Invocation& invocation);
int inspect_command(const Invocation& invocation);
int bench_command(const Invocation& invocation);
int eval_command(const Invocation& invocation);
int releases_command(const Invocation& invocation);
int models_command(const Invocation& invocation);

}  // namespace sluice::cli
