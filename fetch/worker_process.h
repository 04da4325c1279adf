#pragma once
// A worker process as its parent sees it: starts it with a job, reads its lines, asks it to stop, and makes
// sure that it ends.

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fetch {

class WorkerProcess final {
 public:
  /// Starts `command` and sends it `job`. The worker inherits `lock_descriptor`, so that the folder stays
  /// locked while any process works on it.
  WorkerProcess(const std::vector<std::string>& command, std::string_view job, int lock_descriptor);
  ~WorkerProcess();  ///< kills the process when it still runs
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  /// broken: the line is too long, and nothing after it can be read.
  enum class ReadState { line, nothing_yet, ended, broken };
  /// Reads the next line of the output; waits for at most `wait`.
  [[nodiscard]] ReadState read_line(std::string& line, std::chrono::milliseconds wait);

  void ask_to_stop();

  /// Call it after the output has ended. Kills the process if it does not end by itself, and returns how it
  /// ended, in words ("killed by signal 9").
  [[nodiscard]] std::string wait();

 private:
  [[nodiscard]] bool take_line(std::string& line);
  void send(std::string_view text);
  [[nodiscard]] std::string take_end(int status);

  pid_t process_ = -1;
  int input_ = -1;   // the worker's stdin
  int output_ = -1;  // the worker's stdout
  std::string buffer_;
};

}  // namespace sluice::fetch
