#include <cstdio>
#include <exception>

#include "cli/cli.h"

// What arrives here is no base::Error but a bug or an exhausted machine; run_command_line has dealt with the
// rest.
int main(int argc, char** argv) try {
  return sluice::cli::run_command_line({argv + (argc > 0 ? 1 : 0), argv + argc});
} catch (const std::exception& bug) {
  std::fprintf(stderr, "sluice: internal error: %s\n", bug.what());
  return 10;
}
