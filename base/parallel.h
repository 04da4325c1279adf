#pragma once
// A pool of threads for fork-join work: run() hands out numbered tasks and returns when all are done.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
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

/// Neighbouring tasks that one worker takes from the first on, while others may take over the last of them.
/// Thread-safe but for deal(): only where nothing is left, by its worker or while nobody works.
class TaskShare final {
 public:
  /// Aligned, or clang 14 would call a library for an atomic one.
  struct alignas(8) Tasks {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    [[nodiscard]] std::uint32_t count() const { return end - begin; }
  };

  void deal(Tasks tasks) { tasks_.store(tasks); }
  [[nodiscard]] std::uint32_t left() const { return tasks_.load().count(); }
  [[nodiscard]] std::optional<std::uint32_t> take_first();
  /// The second half of what is left, one at least; nothing where nothing is left.
  [[nodiscard]] Tasks take_half();

 private:
  // On a line of its own: its worker writes it for every task.
  alignas(64) std::atomic<Tasks> tasks_{Tasks{}};
  static_assert(std::atomic<Tasks>::is_always_lock_free);
};

/// `thread_count` workers, of which the caller is number 0. Tasks go to whoever is free, so one busy
/// core does not hold the others up. Waiting workers spin for some microseconds and then sleep. Of run() and
/// run_in_shares() one is called at a time, by one thread, and they do not nest.
class WorkerPool final {
 public:
  /// Where threads may run. `a_core_each`: worker n on the n-th core that the process may use, when there are
  /// just as many of them as workers; the caller's thread, whose own threads would inherit it, stays free.
  enum class Placement : std::uint8_t { anywhere, a_core_each };

  explicit WorkerPool(unsigned thread_count, Placement placement = Placement::anywhere);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  [[nodiscard]] unsigned thread_count() const { return static_cast<unsigned>(threads_.size()) + 1; }

  /// Calls body(task, worker) for every task in [0, task_count). The first exception of a task is thrown
  /// here when all workers have stopped; tasks not yet started are then left out.
  /// Tasks begin in the order of their numbers.
  void run(std::size_t task_count, TaskRef body);

  /// The same, but every worker has a share of neighbouring tasks, which it takes in their order; who has
  /// none left takes over half of what another has left. For tasks that read one after another in memory:
  /// where they go from worker to worker, the hardware begins to look ahead anew with every one of them.
  void run_in_shares(std::size_t task_count, TaskRef body);

 private:
  void pin();
  void end();
  void work(unsigned worker);
  void run_dealt(std::size_t task_count, const TaskRef& body);
  void take_tasks(unsigned worker);
  [[nodiscard]] std::optional<std::uint32_t> next_task(unsigned worker);

  std::vector<std::thread> threads_;
  const TaskRef* body_ = nullptr;
  std::vector<TaskShare> shares_;  // [worker]; while tasks are taken in order, all are in the first
  bool in_order_ = true;
  std::atomic<std::uint32_t> not_begun_{0};   // tasks
  std::atomic<bool> stopping_{false};         // a task has failed
  std::atomic<std::uint32_t> generation_{0};  // counts what was run
  std::atomic<std::uint32_t> busy_{0};        // workers that have not finished this generation
  std::atomic<bool> ending_{false};
  std::mutex exception_mutex_;
  std::exception_ptr exception_;
};

/// Threads that this process may use: the CPU affinity mask's count, at least 1.
[[nodiscard]] unsigned available_threads();

}  // namespace sluice::base
