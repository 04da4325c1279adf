#include "cli/terminal.h"

#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <span>
#include <utility>

#include "base/ed25519.h"
#include "base/error.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kLineBytesMax = 1024;

/// Reads one line of stdin, byte by byte, so that later input stays unread.
std::string read_line() {
  std::string line;
  line.reserve(kLineBytesMax);  // a growing string would leave copies of a password in freed memory
  while (line.size() < kLineBytesMax) {
    char byte = 0;
    const auto got = ::read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    // The end of the input ends the line as well, so `printf PASSWORD |` works without a newline.
    if (got <= 0 || byte == '\n') break;
    line += byte;
  }
  return line;
}

/// Turns the terminal's echo off as long as the object lives.
class EchoOff final {
 public:
  EchoOff() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0)
      throw base::Error(base::ErrorKind::usage,
                        "there is no terminal to ask for the password: give it by --password-stdin");
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    // TCSAFLUSH drops what was typed before the question, which was echoed already.
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  ~EchoOff() {
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    // The newline that ended the answer was not echoed, either.
    std::fputc('\n', stderr);
  }
  EchoOff(const EchoOff&) = delete;
  EchoOff& operator=(const EchoOff&) = delete;

 private:
  termios before_{};
};

}  // namespace

Password::~Password() { base::wipe(std::as_writable_bytes(std::span(text_))); }

// Moving a short string copies it, so the text of the moved one must be overwritten.
Password::Password(Password&& other) noexcept : text_(other.text_) {
  base::wipe(std::as_writable_bytes(std::span(other.text_)));
}

bool can_ask(const Console& console) {
  return !console.json() && !console.quiet() && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
}

Password ask_password(const std::string& question) {
  const EchoOff hidden;
  std::fputs(question.c_str(), stderr);
  std::fflush(stderr);
  return read_password();
}

Password read_password() { return Password(read_line()); }

bool ask_yes_no(const std::string& question) {
  std::fputs((question + " [y/N] ").c_str(), stderr);
  std::fflush(stderr);
  // Everything but a clear yes counts as a no, also an empty line and the end of the input.
  const std::string answer = read_line();
  return answer == "y" || answer == "Y" || answer == "yes";
}

}  // namespace sluice::cli
