#pragma once
// A program that a test starts, reads from and ends.

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace sluice::tests {

class ChildProcess {
 public:
  /// Its standard output can be read line by line; standard error too when `with_errors`.
  explicit ChildProcess(std::vector<std::string> command, bool with_errors = false);
  ~ChildProcess();  ///< kills it
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  [[nodiscard]] pid_t process() const { return process_; }
  /// The next line; nothing at the end of its output or after `wait`.
  std::optional<std::string> read_line(std::chrono::seconds wait = std::chrono::seconds(20));
  void kill_now();    ///< SIGKILL
  void ask_to_end();  ///< SIGTERM
  int wait();         ///< its exit code; 128 + the signal that ended it

 private:
  pid_t process_ = -1;
  int output_ = -1;
  std::string buffer_;
};

/// The path of a program, or nothing.
std::optional<std::string> find_program(const std::string& name);

}  // namespace sluice::tests
