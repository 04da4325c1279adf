// Writes go to the descriptors directly: there is no buffer that could keep an event back or lose it when the
// process ends. One mutex orders all output, and the live line is erased before any other line, so that they
// never mix.
//
// Functions with the ending _locked expect the mutex to be held; the public ones take it. std::mutex is not
// recursive, so no public function calls another one while it holds the mutex.

#include "cli/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/text.h"
#include "cli/environment.h"

namespace sluice::cli {
namespace {

// Writes all of `text`; returns 0 or errno.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0) {
      // A signal interrupts a write that has written nothing; the write is simply repeated.
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

Console::Console()
    // stdout and stderr are looked at apart: results are often piped while the live line stays on the
    // terminal.
    : color_(::isatty(STDOUT_FILENO) == 1 && color_allowed()),
      output_is_terminal_(::isatty(STDOUT_FILENO) == 1),
      live_(::isatty(STDERR_FILENO) == 1) {}

Console::~Console() { clear_status(); }

void Console::configure(bool json, bool quiet) {
  const std::lock_guard lock(mutex_);
  json_ = json;
  quiet_ = quiet;
}

void Console::event(const format::Json& object) {
  if (!json_) return;
  const std::lock_guard lock(mutex_);
  write_locked(object.dump() + "\n");
}

void Console::write(std::string_view text) {
  if (json_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_locked(text);
}

void Console::print(std::string_view line) { write(std::string(line) + "\n"); }

void Console::note(std::string_view line) {
  if (json_ || quiet_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_error_locked(std::string(line) + "\n");
}

void Console::warn(std::string_view message) {
  if (json_) {
    // --quiet does not silence an event: a program that reads them can ignore it.
    event(format::Json::object({{"event", "warning"}, {"message", message}}));
    return;
  }
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_error_locked("sluice: warning: " + base::to_printable(message) + "\n");
}

int Console::fail(base::ErrorKind kind, std::string_view message) {
  const int code = base::exit_code(kind);
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  if (json_) {
    const auto object = format::Json::object(
        {{"event", "error"}, {"kind", base::to_string(kind)}, {"message", message}, {"exit", code}});
    // A failed write is ignored: the exit code still says what happened.
    static_cast<void>(write_all(STDOUT_FILENO, object.dump() + "\n"));
  } else {
    // End an unfinished line of text, so that the message has a line of its own.
    if (std::exchange(line_begun_, false)) static_cast<void>(write_all(STDOUT_FILENO, "\n"));
    write_error_locked("sluice: " + base::to_printable(message) + "\n");
  }
  return code;
}

void Console::show_status(std::string_view line) {
  if (!live()) return;
  const std::lock_guard lock(mutex_);
  // The sequence goes back to the first column and erases to the end of the line (ECMA-48 EL), so that a
  // shorter line leaves no rest of the longer one.
  write_error_locked("\r\x1b[K" + std::string(line));
  status_shown_ = true;
}

void Console::clear_status() {
  const std::lock_guard lock(mutex_);
  clear_status_locked();
}

std::size_t Console::status_columns() {
  struct winsize size {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

void Console::write_locked(std::string_view text) {
  const int cause = write_all(STDOUT_FILENO, text);
  // line_begun_ is set even if the write fails; fail() then prints one empty line at worst.
  if (!text.empty()) line_begun_ = text.back() != '\n';
  // SIGPIPE is ignored (run_command_line), so a closed pipe arrives here and ends the command in good order.
  if (cause == EPIPE) throw OutputClosed();
  if (cause != 0) base::throw_errno("standard output", "write", cause);
}

// Failures are ignored: there is no other place to report that stderr cannot be written, and the work itself
// does not depend on it.
void Console::write_error_locked(std::string_view text) { static_cast<void>(write_all(STDERR_FILENO, text)); }

void Console::clear_status_locked() {
  if (!status_shown_) return;
  write_error_locked("\r\x1b[K");
  status_shown_ = false;
}

}  // namespace sluice::cli
