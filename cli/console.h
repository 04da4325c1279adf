#pragma once
// All output of the program. It has three forms, which are never mixed:
//   --json   one JSON object a line on stdout; nothing else there
//   people   text on stdout, notes and warnings on stderr, a live status line on stderr if it is a terminal
//   --quiet  results and failures only
// Thread-safe, because progress arrives from worker threads.

#include <exception>
#include <mutex>
#include <string>
#include <string_view>

#include "base/error.h"
#include "format/json.h"

namespace sluice::cli {

/// The reader of stdout has closed it. That is not an error, but nothing more can be printed.
class OutputClosed final : public std::exception {
 public:
  [[nodiscard]] const char* what() const noexcept override { return "standard output was closed"; }
};

class Console final {
 public:
  Console();
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void configure(bool json, bool quiet);
  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] bool quiet() const { return quiet_; }
  /// True when stdout is a terminal and colours are allowed.
  [[nodiscard]] bool color() const { return color_; }
  /// True when stdout is a terminal: control characters in texts from outside must not reach it.
  [[nodiscard]] bool output_is_terminal() const { return output_is_terminal_; }
  /// True when a live status line can be shown.
  [[nodiscard]] bool live() const { return live_ && !json_ && !quiet_; }

  /// One JSON object on stdout; nothing without --json.
  void event(const format::Json& object);
  /// Text for people on stdout as it is; nothing with --json.
  void write(std::string_view text);
  /// One line for people on stdout; nothing with --json.
  void print(std::string_view line);
  /// One line on stderr; nothing with --json or --quiet.
  void note(std::string_view line);
  /// Something the user should know: a line on stderr, or an event with --json.
  void warn(std::string_view message);
  /// Prints a failure and returns its exit code. When a text has begun a line on stdout, a newline ends it
  /// first.
  int fail(base::ErrorKind kind, std::string_view message);

  /// Replaces the live line, which is erased before anything else is printed. Does nothing when not live().
  void show_status(std::string_view line);
  void clear_status();
  /// The width of the terminal on stderr in columns.
  [[nodiscard]] static std::size_t status_columns();

 private:
  void write_locked(std::string_view text);
  void write_error_locked(std::string_view text);
  void clear_status_locked();

  // The mutex is held for every write, so that lines of different threads do not mix. json_ and quiet_ are
  // set before threads start and are then read without it.
  std::mutex mutex_;
  bool json_ = false;
  bool quiet_ = false;
  bool color_ = false;
  bool output_is_terminal_ = false;
  bool live_ = false;
  bool status_shown_ = false;
  bool line_begun_ = false;  // the last line on stdout has no newline yet
};

}  // namespace sluice::cli
