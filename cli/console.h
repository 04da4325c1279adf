#pragma once
// All output of the program. It has three forms, which are never mixed:
//   --json   one JSON object a line on stdout; nothing else there
//   people   text on stdout, notes and warnings on stderr, a live status line on stderr if it is a terminal
//   --quiet  results and failures only
// Nothing else in cli writes to stdout and stderr, so no command can forget to escape what comes from a file
// or from the network: each function replaces control characters of what it is given, and the Console alone
// adds colours and what moves the cursor. Thread-safe, because progress arrives from worker threads.

#include <exception>
#include <mutex>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cli/styled_text.h"
#include "cli/table.h"
#include "format/json.h"

namespace sluice::cli {

/// The reader of stdout has closed it. That is not an error, but nothing more can be printed.
class OutputClosed final : public std::exception {
 public:
  [[nodiscard]] const char* what() const noexcept override { return "standard output was closed"; }
};

/// Opens the null device in the place of standard streams that are closed. It must come before anything opens
/// a file: that file would get the number of a standard stream, and messages would be written into it.
void open_standard_streams();

class Console final {
 public:
  Console();
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void configure(bool json, bool quiet);
  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] bool quiet() const { return quiet_; }
  /// True when a live status line can be shown.
  [[nodiscard]] bool live() const { return live_ && !json_ && !quiet_; }
  /// True when somebody may be looking: stderr is a terminal, and neither --json nor --quiet was given.
  [[nodiscard]] bool attended() const { return error_is_terminal_ && !json_ && !quiet_; }

  /// One JSON object on stdout; nothing without --json. Characters that control a terminal are escaped as
  /// RFC 8259 allows, which is the same JSON.
  void event(const format::Json& object);
  /// One line for people on stdout; nothing with --json.
  void print(const StyledText& line);
  /// The table's lines on stdout; nothing with --json.
  void print(const Table& table);
  /// Texts of the program itself with several lines, such as --help, on stdout; nothing with --json.
  void print_page(std::string_view text);
  /// Text that a model wrote, as it comes, on stdout; nothing with --json. On a terminal, control characters
  /// except newline and tab are replaced. In a file or pipe the bytes stay as the model wrote them.
  void write_generated(std::string_view text);
  /// Does the same for text that matters less, such as thinking: dimmed on a terminal with colours.
  void write_dimmed(std::string_view text);
  /// One line on stderr; nothing with --json or --quiet.
  void note(const StyledText& line);
  /// Statistics that were asked for: one line on stderr, also with --quiet; nothing with --json.
  void report(const StyledText& line);
  /// Something the user should know: a line on stderr, or an event with --json.
  void warn(std::string_view message);
  /// Says on stderr what is done next, for work of some seconds that shows no progress; end_step() completes
  /// the line. Nothing with --json or --quiet.
  void begin_step(std::string_view text);
  void end_step();
  /// A question on stderr, without a line end.
  void ask(std::string_view question);
  /// Ends the line of a question whose answer was not echoed.
  void end_answer();
  /// Prints a failure and returns its exit code. When a text has begun a line on stdout, a newline ends it
  /// first.
  int fail(base::ErrorKind kind, std::string_view message);
  /// A page of help on stderr, for a call that is an error.
  void fail_with_page(std::string_view text);

  /// Replaces the live line, which is erased before anything else is printed. Does nothing when not live().
  void show_status(std::string_view line);
  void clear_status();
  /// The width of the terminal on stderr in columns.
  [[nodiscard]] static std::size_t status_columns();

 private:
  void write_locked(std::string_view text);
  void write_error_locked(std::string_view text);
  void print_error_locked(const StyledText& line);
  void clear_status_locked();

  // The mutex is held for every write, so that lines of different threads do not mix. json_ and quiet_ are
  // set before threads start and are then read without it.
  std::mutex mutex_;
  bool json_ = false;
  bool quiet_ = false;
  bool color_ = false;
  bool error_color_ = false;
  bool output_is_terminal_ = false;
  bool error_is_terminal_ = false;
  bool live_ = false;
  bool status_shown_ = false;
  bool line_begun_ = false;   // the last line on stdout has no newline yet
  bool error_begun_ = false;  // the last line on stderr has no newline yet
};

}  // namespace sluice::cli
