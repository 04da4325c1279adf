// Writes go to the descriptors directly: there is no buffer that could keep an event back or lose it when the
// process ends. One mutex orders all output, and the live line is erased before any other line, so that they
// never mix.
//
// Functions with the ending _locked expect the mutex to be held; the public ones take it. std::mutex is not
// recursive, so no public function calls another one while it holds the mutex.

#include "cli/console.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
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

// Escapes every character of a JSON text that could control a terminal (RFC 8259). Outside of strings JSON
// has none of them, so this changes strings only, and not what they mean. All of them are below U+10000.
std::string without_controls(const std::string& json) {
  std::string shown;
  shown.reserve(json.size());
  std::string_view rest = json;
  while (!rest.empty()) {
    // Json::dump() writes valid UTF-8 only.
    const auto character = rest.substr(0, static_cast<std::size_t>(std::max(1, base::utf8_length(rest))));
    rest.remove_prefix(character.size());
    const char32_t code_point = base::decode_utf8(character);
    if (!base::is_deceptive(code_point)) {
      shown += character;
      continue;
    }
    std::array<char, 8> escape{};
    std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(code_point));
    shown += escape.data();
  }
  return shown;
}

}  // namespace

void open_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // open() gives the lowest free number, which is this one, because those below it are open. Without the
    // null device there is nothing better to be done.
    const int mode = descriptor == STDIN_FILENO ? O_RDONLY : O_WRONLY;
    static_cast<void>(::open("/dev/null", mode));
  }
}

Console::Console()
    // stdout and stderr are looked at apart: results are often piped while the live line stays on the
    // terminal.
    : color_(::isatty(STDOUT_FILENO) == 1 && color_allowed()),
      error_color_(::isatty(STDERR_FILENO) == 1 && color_allowed()),
      output_is_terminal_(::isatty(STDOUT_FILENO) == 1),
      error_is_terminal_(::isatty(STDERR_FILENO) == 1),
      live_(error_is_terminal_ && cursor_moves_allowed()) {}

Console::~Console() { clear_status(); }

void Console::configure(bool json, bool quiet) {
  const std::lock_guard lock(mutex_);
  json_ = json;
  quiet_ = quiet;
}

void Console::event(const format::Json& object) {
  if (!json_) return;
  const std::lock_guard lock(mutex_);
  write_locked(without_controls(object.dump()) + "\n");
}

void Console::print(const StyledText& line) {
  if (json_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_locked(line.render(color_) + "\n");
}

void Console::print(const Table& table) { print_page(table.text()); }

void Console::print_page(std::string_view text) {
  if (json_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_locked(to_printable_lines(text));
}

void Console::write_generated(std::string_view text) {
  if (json_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  if (output_is_terminal_) {
    write_locked(to_printable_lines(text));
  } else {
    write_locked(text);
  }
}

void Console::write_dimmed(std::string_view text) {
  if (!output_is_terminal_ || !color_) return write_generated(text);
  if (json_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  // SGR 2 is faint, 22 normal (ECMA-48).
  write_locked("\x1b[2m" + to_printable_lines(text) + "\x1b[22m");
}

void Console::note(const StyledText& line) {
  if (json_ || quiet_) return;
  const std::lock_guard lock(mutex_);
  print_error_locked(line);
}

void Console::report(const StyledText& line) {
  if (json_) return;
  const std::lock_guard lock(mutex_);
  print_error_locked(line);
}

void Console::warn(std::string_view message) {
  if (json_) {
    // --quiet does not silence an event: a program that reads them can ignore it.
    event(format::Json::object({{"event", "warning"}, {"message", message}}));
    return;
  }
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  print_error_locked(StyledText("sluice: warning: ", kWarning).add(message));
}

void Console::begin_step(std::string_view text) {
  if (json_ || quiet_) return;
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_error_locked(StyledText(text).render(false) + " ...");
}

void Console::end_step() {
  if (json_ || quiet_) return;
  const std::lock_guard lock(mutex_);
  // Another line may have come meanwhile and ended this one.
  if (error_begun_) write_error_locked(" done\n");
}

void Console::ask(std::string_view question) {
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  write_error_locked(StyledText(question).render(false));
  // The line ends with the answer that the user types.
  error_begun_ = false;
}

void Console::end_answer() {
  const std::lock_guard lock(mutex_);
  write_error_locked("\n");
}

int Console::fail(base::ErrorKind kind, std::string_view message) {
  const int code = base::exit_code(kind);
  const std::lock_guard lock(mutex_);
  clear_status_locked();
  if (json_) {
    const auto object = format::Json::object(
        {{"event", "error"}, {"kind", base::to_string(kind)}, {"message", message}, {"exit", code}});
    // A failed write is ignored: the exit code still says what happened.
    static_cast<void>(write_all(STDOUT_FILENO, without_controls(object.dump()) + "\n"));
  } else {
    // End an unfinished line of text, so that the message has a line of its own.
    if (std::exchange(line_begun_, false)) static_cast<void>(write_all(STDOUT_FILENO, "\n"));
    print_error_locked(StyledText("sluice: ", kBad).add(message));
  }
  return code;
}

void Console::fail_with_page(std::string_view text) {
  const std::lock_guard lock(mutex_);
  write_error_locked(to_printable_lines(text));
}

void Console::show_status(std::string_view line) {
  if (!live()) return;
  const std::lock_guard lock(mutex_);
  if (!status_shown_ && std::exchange(error_begun_, false)) write_error_locked("\n");
  // The sequence goes back to the first column and erases to the end of the line (ECMA-48 EL), so that a
  // shorter line leaves no rest of the longer one.
  write_error_locked("\r\x1b[K" + base::to_printable(line));
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
void Console::write_error_locked(std::string_view text) {
  static_cast<void>(write_all(STDERR_FILENO, text));
  if (!text.empty()) error_begun_ = text.back() != '\n';
}

void Console::print_error_locked(const StyledText& line) {
  clear_status_locked();
  const std::string end_begun = error_begun_ ? "\n" : "";
  write_error_locked(end_begun + line.render(error_color_) + "\n");
}

void Console::clear_status_locked() {
  if (!status_shown_) return;
  write_error_locked("\r\x1b[K");
  status_shown_ = false;
  error_begun_ = false;  // the cursor is in the first column of an empty line
}

}  // namespace sluice::cli
