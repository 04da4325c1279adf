#pragma once
// Questions to the person at the terminal. They are asked on stderr and answered on stdin, so that stdout
// stays for results.

#include <string>
#include <string_view>

#include "cli/console.h"

namespace sluice::cli {

/// A text that is overwritten when it is not needed any more.
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

/// Somebody is there to be asked: stdin and stderr are a terminal, and neither --json nor --quiet was given.
[[nodiscard]] bool can_ask(const Console& console);

/// Asks without showing what is typed. Error{usage} when there is no terminal.
[[nodiscard]] Password ask_password(const std::string& question);

/// The first line of stdin.
[[nodiscard]] Password read_password();

/// True for "y" and "yes" only.
[[nodiscard]] bool ask_yes_no(const std::string& question);

}  // namespace sluice::cli
