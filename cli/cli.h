#pragma once
// The command line: argv in, exit code out. The only room that prints, reads the environment, catches signals
// and knows the model store.

#include <string>
#include <vector>

namespace sluice::cli {

/// `arguments` without the program's name. Returns the process exit code of `sluice --help`.
[[nodiscard]] int run_command_line(const std::vector<std::string>& arguments);

}  // namespace sluice::cli
