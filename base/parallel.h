#pragma once
// A pool of threads for fork-join work: run() distributes numbered tasks and returns when all of them are
// done.

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

/// A reference to a callable `void(task_index, worker_index)`; does not own it.
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

/// A range of tasks that belongs to one worker. The worker takes them from the front, while others may steal
/// from the back. Thread-safe except deal(), which needs an empty share and is called by its worker, or while
/// nobody works.
class TaskShare final {
 public:
  /// Aligned, since clang 14 calls a library function for an atomic of it otherwise.
  struct alignas(8) Tasks {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    [[nodiscard]] std::uint32_t count() const { return end - begin; }
  };

  void deal(Tasks tasks) { tasks_.store(tasks); }
  [[nodiscard]] std::uint32_t left() const { return tasks_.load().count(); }
  [[nodiscard]] std::optional<std::uint32_t> take_first();
  /// Steals the second half of the tasks that are left, at least one; an empty range when none is left.
  [[nodiscard]] Tasks take_half();

 private:
  // On a cache line of its own: its worker writes it for every task.
  alignas(64) std::atomic<Tasks> tasks_{Tasks{}};
  static_assert(std::atomic<Tasks>::is_always_lock_free);
};

/// `thread_count` workers; the calling thread is worker 0. A free worker takes the next task, so that one
/// busy core does not delay the others. Idle workers spin for some microseconds and then sleep. Only one call
/// of run() or run_in_shares() may be active at a time, and they do not nest.
class WorkerPool final {
 public:
  /// Where threads may run. `a_core_each`: worker n is pinned to the n-th core that the process may use, when
  /// there are exactly as many cores as workers. The caller's thread stays free, since threads that it starts
  /// would inherit the pinning.
  enum class Placement : std::uint8_t { anywhere, a_core_each };

  explicit WorkerPool(unsigned thread_count, Placement placement = Placement::anywhere);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  [[nodiscard]] unsigned thread_count() const { return static_cast<unsigned>(threads_.size()) + 1; }

  /// Calls body(task, worker) for every task in [0, task_count). Tasks start in the order of their numbers.
  /// After an exception no more tasks start, and the first exception is rethrown here when all workers have
  /// stopped.
  void run(std::size_t task_count, TaskRef body);

  /// Like run(), but every worker gets a range of consecutive tasks, and a worker with none left steals half
  /// of another's rest. For tasks that read consecutive memory: the hardware prefetcher works best when one
  /// core reads on and on.
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
  std::vector<TaskShare> shares_;  // [worker]; run() puts all tasks into the first one
  bool in_order_ = true;
  std::atomic<std::uint32_t> not_begun_{0};   // tasks that have not started
  std::atomic<bool> stopping_{false};         // a task has failed
  std::atomic<std::uint32_t> generation_{0};  // number of calls of run() and run_in_shares()
  std::atomic<std::uint32_t> busy_{0};        // workers that have not finished this generation
  std::atomic<bool> ending_{false};
  std::mutex exception_mutex_;
  std::exception_ptr exception_;
};

/// The number of CPUs that this process may use (its affinity mask), at least 1.
[[nodiscard]] unsigned available_threads();

}  // namespace sluice::base
