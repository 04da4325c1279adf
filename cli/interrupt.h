#pragma once
// Ctrl-C and SIGTERM as a std::stop_token. The first one asks to stop, so that work ends where it can be
// resumed; the second ends the process at once with exit code 130.

#include <stop_token>

namespace sluice::cli {

class InterruptHandler final {
 public:
  /// Installs the handlers, once a process, and returns the token that they stop.
  [[nodiscard]] static std::stop_token install();
};

}  // namespace sluice::cli
