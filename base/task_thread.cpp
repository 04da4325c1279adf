// One thread and a queue of tasks behind a mutex. Tasks are reads and writes of megabytes, so that the cost
// of the mutex does not matter.

#include "base/task_thread.h"

#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace sluice::base {

TaskThread::TaskThread() {
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error& error) {
    throw Error(ErrorKind::io, std::string("cannot start a thread: ") + error.what());
  }
}

TaskThread::~TaskThread() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TaskThread::post(std::function<void()> task) {
  {
    const std::scoped_lock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
}

void TaskThread::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || !tasks_.empty(); });
    if (ending_) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace sluice::base
