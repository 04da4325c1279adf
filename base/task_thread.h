#pragma once
// A thread that reads or writes while the workers of a pool compute (parallel.h). It mostly waits for a disk,
// so it does not count as one of the threads that use a core.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace sluice::base {

/// Runs tasks one after the other in the order of post(). Tasks must not throw.
class TaskThread final {
 public:
  TaskThread();
  /// Waits for the running task, and drops those that have not started.
  ~TaskThread();
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  /// May be called by any thread.
  void post(std::function<void()> task);

 private:
  void work();

  std::mutex mutex_;  // protects the members below
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace sluice::base
