#pragma once
// The command line: arguments in, exit code out. It is the only room that prints, reads the environment and
// catches signals.

#include <string>
#include <vector>

namespace sluice::cli {

/// `arguments` without the program's name. Returns the process exit code of `sluice --help`.
[[nodiscard]] int run_command_line(const std::vector<std::string>& arguments);

}  // namespace sluice::cli
