#pragma once
// Questions to the person at the terminal. They are asked on stderr and answered on stdin, because stdout is
// for results. The first Ctrl-C at a question ends the wait (Error{interrupted}); on every way out of the
// question for a password, the terminal shows again what is typed.

#include <signal.h>

#include <array>
#include <string>
#include <string_view>

#include "cli/console.h"

namespace sluice::cli {

inline constexpr std::array kAwaitedSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

/// While it lives, the signals that end or stop the program arrive in wait_for_input() alone, and are only
/// noted there. One object at a time, on the main thread.
class SignalsHeld final {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  /// Returns 0 when stdin has something to read or has ended, else the signal that arrived.
  [[nodiscard]] int wait_for_input() const;
  /// Does what `number` does to a program without handlers: SIGTSTP stops it until it is continued, the
  /// others end it.
  void obey(int number) const;
  /// Ctrl-C and SIGTERM end the command as they do elsewhere (Error{interrupted}); the other signals do what
  /// they always do. Returns after SIGTSTP, when the program was continued.
  void act_on(int number) const;

 private:
  void install(std::size_t i);

  sigset_t before_{};
  std::array<struct sigaction, kAwaitedSignals.size()> actions_{};
};

/// A text that is overwritten in memory when the object is destroyed.
class Password final {
 public:
  explicit Password(std::string text = {}) : text_(std::move(text)) {}
  ~Password();
  Password(const Password&) = delete;
  Password& operator=(const Password&) = delete;
  Password(Password&& other) noexcept;
  Password& operator=(Password&&) = delete;

  [[nodiscard]] std::string_view text() const { return text_; }

 private:
  std::string text_;
};

/// True when a person can answer: stdin and stderr are a terminal, and neither --json nor --quiet was given.
[[nodiscard]] bool can_ask(const Console& console);

/// True when, in addition, stdout is a terminal: a person reads what is answered.
[[nodiscard]] bool can_converse(const Console& console);

/// Asks without echoing the answer. Error{usage} when there is no terminal.
[[nodiscard]] Password ask_password(Console& console, const std::string& question);

/// Reads the first line of stdin.
[[nodiscard]] Password read_password();

/// True only when the answer is "y" or "yes".
[[nodiscard]] bool ask_yes_no(Console& console, const std::string& question);

}  // namespace sluice::cli
