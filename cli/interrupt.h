#pragma once
// Turns Ctrl-C and SIGTERM into a std::stop_token. The first signal requests a stop, so that work ends in a
// state that can be resumed; the second ends the process at once with exit code 130. A conversation goes on
// after a signal: it asks for a new token before each answer.

#include <stop_token>

namespace sluice::cli {

class InterruptHandler final {
 public:
  /// Installs the handlers, at most once in a process, and returns the token that they stop.
  [[nodiscard]] static std::stop_token install();
  /// Forgets the signals so far: the next one counts as the first, and requests a stop of the token that is
  /// returned. Called by one thread.
  [[nodiscard]] static std::stop_token renew();
  /// True once SIGTERM has come; renew() does not forget that.
  [[nodiscard]] static bool terminated();
};

}  // namespace sluice::cli
