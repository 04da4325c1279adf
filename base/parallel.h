#pragma once
// A pool of threads for fork-join work: run() hands out numbered tasks and returns when all are done.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace sluice::base {

/// A callable `void(task_index, worker_index)` by reference; does not own what it calls.
class TaskRef {
 public:
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TaskRef>)
      TaskRef(F&& callable)  // NOLINT(google-explicit-constructor): a parameter type, like string_view
      : object_(const_cast<void*>(static_cast<const void*>(&callable))),
        call_([](void* object, std::size_t task, unsigned worker) {
          (*static_cast<std::remove_reference_t<F>*>(object))(task, worker);
        }) {}

  void operator()(std::size_t task, unsigned worker) const { call_(object_, task, worker); }

 private:
  void* object_;
  void (*call_)(void*, std::size_t, unsigned);
};

/// `thread_count` workers, of which the caller of run() is number 0. Tasks are taken one by one by
/// whoever is free, so one busy core does not hold the others up. Waiting workers spin for some
/// microseconds and then sleep. run() is called by one thread at a time and does not nest.
class WorkerPool final {
 public:
  explicit WorkerPool(unsigned thread_count);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  [[nodiscard]] unsigned thread_count() const { return static_cast<unsigned>(threads_.size()) + 1; }

  /// Calls body(task, worker) for every task in [0, task_count). The first exception of a task is thrown
  /// here when all workers have stopped; tasks not yet started are then left out.
  void run(std::size_t task_count, TaskRef body);

 private:
  void end();
  void work(unsigned worker);
  void take_tasks(unsigned worker);

  std::vector<std::thread> threads_;
  const TaskRef* body_ = nullptr;
  std::size_t task_count_ = 0;
  std::atomic<std::size_t> next_task_{0};
  std::atomic<std::uint32_t> generation_{0};  // counts calls of run()
  std::atomic<std::uint32_t> busy_{0};        // workers that have not finished this generation
  std::atomic<bool> ending_{false};
  std::mutex exception_mutex_;
  std::exception_ptr exception_;
};

/// Threads that this process may use: the CPU affinity mask's count, at least 1.
[[nodiscard]] unsigned available_threads();

}  // namespace sluice::base
