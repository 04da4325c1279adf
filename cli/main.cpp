#include <cstdio>
#include <exception>

#include "cli/cli.h"

// run_command_line handles every expected failure; an exception that arrives here is a bug.
int main(int argc, char** argv) try {
  return sluice::cli::run_command_line({argv + (argc > 0 ? 1 : 0), argv + argc});
} catch (const std::exception& bug) {
  std::fprintf(stderr, "sluice: internal error: %s\n", bug.what());
  return 10;
}
