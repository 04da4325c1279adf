#pragma once
// Lines that a person types at the terminal, with editing and a history of this run (libedit). They are asked
// for on stderr, because stdout is for results. Where the terminal cannot move its cursor, lines are read
// without editing.

#include <cstdint>
#include <memory>
#include <string>

#include "cli/console.h"

namespace sluice::cli {

struct Line {
  enum class End : std::uint8_t {
    line,         ///< the return key
    interrupted,  ///< Ctrl-C: what was typed is dropped
    closed,       ///< Ctrl-D on an empty line, or the terminal is gone
  };
  End end = End::line;
  std::string text;  ///< UTF-8, without the line end
};

/// Used by the main thread. SIGTERM and SIGHUP end read() as they end the program elsewhere.
class LineReader final {
 public:
  explicit LineReader(Console& console);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// `prompt` is plain ASCII. Lines that are not empty enter the history. Error{interrupted} after SIGTERM.
  [[nodiscard]] Line read(const std::string& prompt);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::cli
