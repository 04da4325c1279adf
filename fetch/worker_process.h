#pragma once
// A worker process seen from its parent: started with a job, read line by line, asked to stop, ended for
// sure.

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fetch {

class WorkerProcess final {
 public:
  /// Starts `command` and sends it `job`. The worker inherits `lock_descriptor`, so that what it locks stays
  /// locked as long as any process works on it.
  WorkerProcess(const std::vector<std::string>& command, std::string_view job, int lock_descriptor);
  ~WorkerProcess();  ///< kills it when it still runs
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  /// broken: a line without an end; nothing that follows can be read.
  enum class ReadState { line, nothing_yet, ended, broken };
  /// The next line of its output, waiting at most that long.
  [[nodiscard]] ReadState read_line(std::string& line, std::chrono::milliseconds wait);

  void ask_to_stop();

  /// After its output has ended: how the process ended, in words ("killed by signal 9"). One that does not
  /// end by itself is killed.
  [[nodiscard]] std::string wait();

 private:
  [[nodiscard]] bool take_line(std::string& line);
  void send(std::string_view text);
  [[nodiscard]] std::string take_end(int status);

  pid_t process_ = -1;
  int input_ = -1;   // what we write to it
  int output_ = -1;  // what it writes
  std::string buffer_;
};

}  // namespace sluice::fetch
