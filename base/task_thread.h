#pragma once
// A thread that reads or writes while others compute (parallel.h): it mostly waits for a disk, and so has no
// processor of its own to be counted.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace sluice::base {

/// Does one task after the other, in the order of post(). Used by one thread.
class TaskThread final {
 public:
  TaskThread();
  /// Waits for the task that is being done; those behind it are dropped.
  ~TaskThread();
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  void post(std::function<void()> task);

  /// Returns when at most `count` tasks, the last ones posted, are not done. Throws what a task has thrown;
  /// those behind it are dropped.
  void wait(std::size_t count = 0);

 private:
  void work();

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;  // the first one is being done
  std::exception_ptr failure_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace sluice::base
