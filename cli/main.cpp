#include <cstdio>
#include <exception>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/console.h"

// run_command_line handles every expected failure; an exception that arrives here is a bug.
int main(int argc, char** argv) try {
  sluice::cli::open_standard_streams();
  return sluice::cli::run_command_line({argv + (argc > 0 ? 1 : 0), argv + argc});
} catch (const std::exception& bug) {
  std::fprintf(stderr, "sluice: internal error: %s\n", sluice::base::to_printable(bug.what()).c_str());
  return 10;
}
