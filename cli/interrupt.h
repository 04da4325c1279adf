#pragma once
// Turns Ctrl-C and SIGTERM into a std::stop_token. The first signal requests a stop, so that work ends in a
// state that can be resumed; the second ends the process at once with exit code 130.

#include <stop_token>

namespace sluice::cli {

class InterruptHandler final {
 public:
  /// Installs the handlers, at most once in a process, and returns the token that they stop.
  [[nodiscard]] static std::stop_token install();
};

}  // namespace sluice::cli
