#pragma once
// Questions to the person at the terminal. They are asked on stderr and answered on stdin, because stdout is
// for results. The first Ctrl-C at a question ends the wait (Error{interrupted}); on every way out of the
// question for a password, the terminal shows again what is typed.

#include <string>
#include <string_view>

#include "cli/console.h"

namespace sluice::cli {

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

/// Asks without echoing the answer. Error{usage} when there is no terminal.
[[nodiscard]] Password ask_password(Console& console, const std::string& question);

/// Reads the first line of stdin.
[[nodiscard]] Password read_password();

/// True only when the answer is "y" or "yes".
[[nodiscard]] bool ask_yes_no(Console& console, const std::string& question);

}  // namespace sluice::cli
