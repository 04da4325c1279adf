#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::base {
namespace {

// About 20 us: longer than the gap between two regions of a forward pass, shorter than a time slice.
constexpr int kSpinsMax = 1000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

WorkerPool::WorkerPool(unsigned thread_count) {
  INVARIANT(thread_count >= 1);
  threads_.reserve(thread_count - 1);
  try {
    for (unsigned worker = 1; worker < thread_count; ++worker)
      threads_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {
    end();
    throw Error(ErrorKind::io, "cannot start " + std::to_string(thread_count) + " threads: " + error.what());
  }
}

WorkerPool::~WorkerPool() { end(); }

void WorkerPool::end() {
  ending_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::run(std::size_t task_count, TaskRef body) {
  if (task_count == 0) return;
  body_ = &body;
  task_count_ = task_count;
  next_task_.store(0);
  const bool alone = threads_.empty() || task_count == 1;
  if (!alone) {
    busy_.store(static_cast<std::uint32_t>(threads_.size()));
    generation_.fetch_add(1);
    generation_.notify_all();
  }
  take_tasks(0);
  if (!alone) {
    int spins = 0;
    for (std::uint32_t busy = busy_.load(); busy != 0; busy = busy_.load()) {
      if (++spins < kSpinsMax) {
        relax();
      } else {
        busy_.wait(busy);
      }
    }
  }
  if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
}

void WorkerPool::work(unsigned worker) {
  std::uint32_t seen = 0;
  while (true) {
    for (int spins = 0; generation_.load() == seen && spins < kSpinsMax; ++spins) relax();
    generation_.wait(seen);
    ++seen;
    if (ending_.load()) return;
    take_tasks(worker);
    if (busy_.fetch_sub(1) == 1) busy_.notify_one();
  }
}

void WorkerPool::take_tasks(unsigned worker) {
  try {
    for (std::size_t task = next_task_.fetch_add(1); task < task_count_; task = next_task_.fetch_add(1))
      (*body_)(task, worker);
  } catch (...) {
    next_task_.store(task_count_);
    const std::scoped_lock lock(exception_mutex_);
    if (!exception_) exception_ = std::current_exception();
  }
}

unsigned available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return std::max(1u, std::thread::hardware_concurrency());
  return std::max(1u, static_cast<unsigned>(CPU_COUNT(&set)));
}

}  // namespace sluice::base
