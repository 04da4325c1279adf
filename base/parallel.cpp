// The worker pool. The caller of run() publishes the body and the tasks, then raises generation_; every
// worker waits for that, takes tasks until none is left and lowers busy_, for which the caller waits. All of
// it is atomic counters: a region of a forward pass takes microseconds, which a mutex and a condition
// variable would double.
//
// Invariants: body_ and shares_ change only while busy_ is 0. No worker can miss a generation, because the
// next one begins only after all workers have lowered busy_. The raise of generation_ and the loads that see
// it order everything that the caller wrote before, so body_ and in_order_ need not be atomic.

#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::base {
namespace {

// About 20 us: longer than the pause between two parallel regions of a forward pass, shorter than a time
// slice.
constexpr int kSpinsMax = 1000;
constexpr std::size_t kTasksMax = std::numeric_limits<std::uint32_t>::max();

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

// Both ends of a share are in one atomic word. An owner and a thief that meet at the last task therefore
// cannot both get it: one of the two exchanges fails.
std::optional<std::uint32_t> TaskShare::take_first() {
  Tasks now = tasks_.load();
  while (now.count() > 0)
    if (tasks_.compare_exchange_weak(now, {now.begin + 1, now.end})) return now.begin;
  return std::nullopt;
}

TaskShare::Tasks TaskShare::take_half() {
  Tasks now = tasks_.load();
  while (now.count() > 0) {
    // Rounded down, so the last task can be stolen, too: its owner may be busy with a long one.
    const std::uint32_t middle = now.begin + now.count() / 2;
    if (tasks_.compare_exchange_weak(now, {now.begin, middle})) return {middle, now.end};
  }
  return {};
}

WorkerPool::WorkerPool(unsigned thread_count, Placement placement) : shares_(thread_count) {
  INVARIANT(thread_count >= 1);
  threads_.reserve(thread_count - 1);
  try {
    for (unsigned worker = 1; worker < thread_count; ++worker)
      threads_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {
    end();  // the destructor does not run after an exception of the constructor
    throw Error(ErrorKind::io, "cannot start " + std::to_string(thread_count) + " threads: " + error.what());
  }
  if (placement == Placement::a_core_each) pin();
}

// When the kernel refuses, the threads run anywhere.
void WorkerPool::pin() {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof(usable), &usable) != 0) return;
  if (static_cast<unsigned>(CPU_COUNT(&usable)) != thread_count()) return;
  // The first core that may be used is left for the caller.
  std::size_t core = 0;
  while (!CPU_ISSET(core, &usable)) ++core;
  for (std::thread& thread : threads_) {
    do ++core;
    while (!CPU_ISSET(core, &usable));
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(core, &own);
    static_cast<void>(pthread_setaffinity_np(thread.native_handle(), sizeof(own), &own));
  }
}

WorkerPool::~WorkerPool() { end(); }

// Workers that sleep wait for a change of generation_, so it is raised although there is no work; they look
// at ending_ first.
void WorkerPool::end() {
  ending_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::run(std::size_t task_count, TaskRef body) {
  INVARIANT(task_count <= kTasksMax);
  // All tasks are in one share, from whose front all workers take: this keeps the order of their numbers.
  in_order_ = true;
  shares_.front().deal({0, static_cast<std::uint32_t>(task_count)});
  run_dealt(task_count, body);
}

void WorkerPool::run_in_shares(std::size_t task_count, TaskRef body) {
  INVARIANT(task_count <= kTasksMax);
  in_order_ = false;
  const auto begin_of = [&](std::size_t worker) {
    return static_cast<std::uint32_t>(task_count * worker / shares_.size());
  };
  for (std::size_t worker = 0; worker < shares_.size(); ++worker)
    shares_[worker].deal({begin_of(worker), begin_of(worker + 1)});
  run_dealt(task_count, body);
}

void WorkerPool::run_dealt(std::size_t task_count, const TaskRef& body) {
  if (task_count == 0) return;
  body_ = &body;
  not_begun_.store(static_cast<std::uint32_t>(task_count));
  stopping_.store(false);
  // Nobody can help with a single task, so nobody is woken for it.
  const bool alone = threads_.empty() || task_count == 1;
  if (!alone) {
    busy_.store(static_cast<std::uint32_t>(threads_.size()));
    generation_.fetch_add(1);
    generation_.notify_all();
  }
  take_tasks(0);
  // No task is left, but others may still be running one. body_ must not change before they have all
  // returned.
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
  // A worker spins before it sleeps: waking a sleeping thread takes longer than most regions.
  while (true) {
    for (int spins = 0; generation_.load() == seen && spins < kSpinsMax; ++spins) relax();
    generation_.wait(seen);  // returns at once when the generation has changed while spinning
    ++seen;
    if (ending_.load()) return;
    take_tasks(worker);
    if (busy_.fetch_sub(1) == 1) busy_.notify_one();
  }
}

void WorkerPool::take_tasks(unsigned worker) {
  try {
    for (auto task = next_task(worker); task; task = next_task(worker)) {
      not_begun_.fetch_sub(1);
      (*body_)(*task, worker);
    }
  } catch (...) {
    // Other workers finish the task that they are in, and take no further one.
    stopping_.store(true);
    const std::scoped_lock lock(exception_mutex_);
    if (!exception_) exception_ = std::current_exception();
  }
}

// Stolen tasks are in no share for a moment, so empty shares do not mean that all tasks have started:
// not_begun_ tells.
std::optional<std::uint32_t> WorkerPool::next_task(unsigned worker) {
  int spins = 0;
  while (!stopping_.load() && not_begun_.load() > 0) {
    TaskShare& own = shares_[in_order_ ? 0 : worker];
    if (const auto task = own.take_first()) return task;
    if (!in_order_) {
      // From the fullest share, so that few steals are needed.
      const TaskShare::Tasks taken = std::ranges::max_element(shares_, {}, &TaskShare::left)->take_half();
      if (taken.count() > 0) {
        // The own share is empty at this point, and only its owner deals to it.
        own.deal({taken.begin + 1, taken.end});
        return taken.begin;
      }
    }
    if (++spins < kSpinsMax) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
  return std::nullopt;
}

unsigned available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return std::max(1u, std::thread::hardware_concurrency());
  return std::max(1u, static_cast<unsigned>(CPU_COUNT(&set)));
}

}  // namespace sluice::base
