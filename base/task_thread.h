#pragma once
// A thread that reads or writes while others compute (parallel.h): it mostly waits for a disk, and so has no
// processor of its own to be counted.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace sluice::base {

/// Does one task after the other, in the order of post(). Tasks do not throw.
class TaskThread final {
 public:
  TaskThread();
  /// Waits for the task that is being done; those behind it are dropped.
  ~TaskThread();
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  /// By any thread.
  void post(std::function<void()> task);

 private:
  void work();

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace sluice::base
