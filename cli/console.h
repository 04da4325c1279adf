#pragma once
// Everything that is printed goes through here, so that the three forms of output stay apart:
//   --json   one JSON object a line on stdout; nothing else there
//   people   text on stdout, notes and warnings on stderr, a live status line on stderr if it is a terminal
//   --quiet  what was asked for and failures only
// Thread-safe: progress arrives from worker threads.

#include <exception>
#include <mutex>
#include <string>
#include <string_view>

#include "base/error.h"
#include "format/json.h"

namespace sluice::cli {

/// The reader of stdout has gone away: not an error, but nothing more can be told.
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
  /// stdout is a terminal that may be coloured.
  [[nodiscard]] bool color() const { return color_; }
  /// stdout is a terminal: what comes from outside must not steer it.
  [[nodiscard]] bool output_is_terminal() const { return output_is_terminal_; }
  /// A live status line can be shown.
  [[nodiscard]] bool live() const { return live_ && !json_ && !quiet_; }

  /// One JSON object on stdout; nothing without --json.
  void event(const format::Json& object);
  /// Text for people on stdout as it is; nothing with --json.
  void write(std::string_view text);
  /// One line for people on stdout; nothing with --json.
  void print(std::string_view line);
  /// One line on stderr; nothing with --json or --quiet.
  void note(std::string_view line);
  /// Something the user should know: a line on stderr, an event in --json.
  void warn(std::string_view message);
  /// Tells a failure and returns its exit code. A text that has begun a line on stdout is ended by a newline.
  int fail(base::ErrorKind kind, std::string_view message);

  /// Replaces the live line; it is rubbed out before anything else is printed. Nothing when not live().
  void show_status(std::string_view line);
  void clear_status();
  /// Columns of the terminal on stderr.
  [[nodiscard]] static std::size_t status_columns();

 private:
  void write_locked(std::string_view text);
  void write_error_locked(std::string_view text);
  void clear_status_locked();

  std::mutex mutex_;
  bool json_ = false;
  bool quiet_ = false;
  bool color_ = false;
  bool output_is_terminal_ = false;
  bool live_ = false;
  bool status_shown_ = false;
  bool line_begun_ = false;  // on stdout, and not ended
};

}  // namespace sluice::cli
