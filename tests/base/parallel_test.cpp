#include "base/parallel.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace sluice::base;

namespace {

// Both ways of handing out tasks keep the same promises.
constexpr auto kWays = {&WorkerPool::run, &WorkerPool::run_in_shares};

}  // namespace

TEST_CASE("every task is run once, by a worker of the pool, whatever the number of threads and tasks") {
  for (const auto run : kWays) {
    for (const unsigned threads : {1u, 2u, 3u, 4u, 7u}) {
      WorkerPool pool(threads);
      CHECK(pool.thread_count() == threads);
      for (const std::size_t tasks : {0u, 1u, 2u, 3u, 5u, 8u, 64u, 1000u}) {
        std::vector<std::atomic<int>> runs(tasks);
        std::atomic<bool> strange_worker{false};
        (pool.*run)(tasks, [&](std::size_t task, unsigned worker) {
          ++runs[task];
          if (worker >= threads) strange_worker = true;
        });
        for (const auto& count : runs) CHECK(count == 1);
        CHECK_FALSE(strange_worker);
      }
    }
  }
}

TEST_CASE("thousands of short runs in a row see each other's results") {
  WorkerPool pool(4);
  std::vector<std::uint64_t> values(16, 0);
  for (std::uint64_t round = 0; round < 20000; ++round) {
    const auto run = round % 2 == 0 ? &WorkerPool::run : &WorkerPool::run_in_shares;
    (pool.*run)(values.size(), [&](std::size_t task, unsigned) { values[task] += task + round; });
  }
  for (std::size_t task = 0; task < values.size(); ++task)
    CHECK(values[task] == 20000 * task + 19999 * 10000);
}

TEST_CASE("runs after pauses longer than the spinning wake the sleepers") {
  WorkerPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> sum{0};
    pool.run(100, [&](std::size_t task, unsigned) { sum += static_cast<int>(task); });
    CHECK(sum == 4950);
  }
}

TEST_CASE("an exception of a task reaches the caller, and the pool can be used again") {
  for (const unsigned threads : {1u, 2u, 4u}) {
    WorkerPool pool(threads);
    for (std::size_t round = 0; round < 40; ++round) {
      const std::size_t bad = round / 2;
      const auto run = round % 2 == 0 ? &WorkerPool::run : &WorkerPool::run_in_shares;
      std::atomic<int> running{0};
      std::string message;
      try {
        (pool.*run)(20, [&](std::size_t task, unsigned) {
          ++running;
          if (task == bad) {
            --running;
            throw std::runtime_error("task " + std::to_string(task));
          }
          --running;
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      CHECK(message == "task " + std::to_string(bad));
      CHECK(running == 0);  // nobody is still at work when the caller has the exception
      std::atomic<int> done{0};
      const auto other = round % 4 < 2 ? &WorkerPool::run : &WorkerPool::run_in_shares;
      (pool.*other)(7, [&](std::size_t, unsigned) { ++done; });
      CHECK(done == 7);
    }
  }
}

TEST_CASE("when all tasks fail, one exception is thrown and the rest is skipped") {
  WorkerPool pool(4);
  for (const auto run : kWays) {
    std::atomic<int> started{0};
    CHECK_THROWS_AS((pool.*run)(100000,
                                [&](std::size_t, unsigned) {
                                  ++started;
                                  throw std::logic_error("no");
                                }),
                    std::logic_error);
    CHECK(started <= 4);
  }
}

TEST_CASE("a share is taken from the front, and half of the rest can be stolen") {
  TaskShare share;
  CHECK_FALSE(share.take_first());
  CHECK(share.take_half().count() == 0);
  share.deal({10, 17});
  CHECK(share.take_first() == 10);
  CHECK(share.left() == 6);
  const auto half = share.take_half();
  CHECK(half.begin == 14);
  CHECK(half.end == 17);
  CHECK(share.take_first() == 11);
  CHECK(share.take_first() == 12);
  const auto last = share.take_half();
  CHECK(last.begin == 13);
  CHECK(last.end == 14);
  CHECK(share.left() == 0);
  CHECK_FALSE(share.take_first());
}

TEST_CASE("tasks begin in order, and those of a share do") {
  WorkerPool pool(4);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::vector<std::size_t>> of_worker(4);
    pool.run(100, [&](std::size_t task, unsigned worker) { of_worker[worker].push_back(task); });
    for (const auto& tasks : of_worker) CHECK(std::ranges::is_sorted(tasks));
  }
  WorkerPool alone(1);
  for (const auto run : kWays) {
    std::vector<std::size_t> order;
    (alone.*run)(5, [&](std::size_t task, unsigned) { order.push_back(task); });
    CHECK(order == std::vector<std::size_t>{0, 1, 2, 3, 4});
  }
}

TEST_CASE("other workers steal the rest of a share whose worker is delayed") {
  WorkerPool pool(3);
  constexpr std::size_t kTasks = 30;
  for (std::size_t held = 0; held < kTasks; ++held) {
    std::atomic<std::size_t> done{0};
    std::size_t done_before = 0;
    pool.run_in_shares(kTasks, [&](std::size_t task, unsigned) {
      while (task == held && done.load() < kTasks - 1) std::this_thread::yield();
      const std::size_t before = done.fetch_add(1);
      if (task == held) done_before = before;
    });
    CHECK(done_before == kTasks - 1);
  }
}

TEST_CASE("a pool within a task of another pool works") {
  WorkerPool outer(2);
  std::atomic<int> sum{0};
  outer.run(4, [&](std::size_t, unsigned) {
    WorkerPool inner(2);
    inner.run(10, [&](std::size_t task, unsigned) { sum += static_cast<int>(task); });
  });
  CHECK(sum == 4 * 45);
}

namespace {

cpu_set_t usable_cores() {
  cpu_set_t cores;
  REQUIRE(sched_getaffinity(0, sizeof(cores), &cores) == 0);
  return cores;
}

/// Where each worker of a pool may run. Every one is held until all have come.
std::vector<cpu_set_t> cores_of_workers(WorkerPool& pool) {
  std::vector<cpu_set_t> cores(pool.thread_count());
  std::atomic<unsigned> here{0};
  pool.run(pool.thread_count(), [&](std::size_t, unsigned worker) {
    cores[worker] = usable_cores();
    ++here;
    while (here.load() < pool.thread_count()) std::this_thread::yield();
  });
  return cores;
}

}  // namespace

TEST_CASE("with one core for each worker, every thread but the caller's is pinned to its own") {
  const cpu_set_t all = usable_cores();
  WorkerPool pool(available_threads(), WorkerPool::Placement::a_core_each);
  const auto cores = cores_of_workers(pool);
  CHECK(CPU_EQUAL(&cores[0], &all));
  cpu_set_t taken;
  CPU_ZERO(&taken);
  for (std::size_t worker = 1; worker < cores.size(); ++worker) {
    CHECK(CPU_COUNT(&cores[worker]) == 1);
    CPU_OR(&taken, &taken, &cores[worker]);
  }
  CHECK(CPU_COUNT(&taken) == static_cast<int>(cores.size()) - 1);

  WorkerPool more(available_threads() + 1, WorkerPool::Placement::a_core_each);
  for (const cpu_set_t& of_worker : cores_of_workers(more)) CHECK(CPU_EQUAL(&of_worker, &all));
  WorkerPool anywhere(available_threads());
  for (const cpu_set_t& of_worker : cores_of_workers(anywhere)) CHECK(CPU_EQUAL(&of_worker, &all));
}

TEST_CASE("a pool that never ran ends, and there is at least one thread") {
  { const WorkerPool unused(8); }
  CHECK(available_threads() >= 1);
}
