#include "base/parallel.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

using namespace sluice::base;

TEST_CASE("every task is run once, by a worker of the pool, whatever the number of threads and tasks") {
  for (const unsigned threads : {1u, 2u, 3u, 4u, 7u}) {
    WorkerPool pool(threads);
    CHECK(pool.thread_count() == threads);
    for (const std::size_t tasks : {0u, 1u, 2u, 3u, 5u, 8u, 64u, 1000u}) {
      std::vector<std::atomic<int>> runs(tasks);
      std::atomic<bool> strange_worker{false};
      pool.run(tasks, [&](std::size_t task, unsigned worker) {
        ++runs[task];
        if (worker >= threads) strange_worker = true;
      });
      for (const auto& count : runs) CHECK(count == 1);
      CHECK_FALSE(strange_worker);
    }
  }
}

TEST_CASE("thousands of short runs in a row see each other's results") {
  WorkerPool pool(4);
  std::vector<std::uint64_t> values(16, 0);
  for (std::uint64_t round = 0; round < 20000; ++round)
    pool.run(values.size(), [&](std::size_t task, unsigned) { values[task] += task + round; });
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

TEST_CASE("an exception of a task reaches the caller, and the pool works on") {
  for (const unsigned threads : {1u, 2u, 4u}) {
    WorkerPool pool(threads);
    for (std::size_t bad = 0; bad < 20; ++bad) {
      std::atomic<int> running{0};
      std::string message;
      try {
        pool.run(20, [&](std::size_t task, unsigned) {
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
      pool.run(7, [&](std::size_t, unsigned) { ++done; });
      CHECK(done == 7);
    }
  }
}

TEST_CASE("when all tasks fail, one exception is thrown and the rest is left out") {
  WorkerPool pool(4);
  std::atomic<int> started{0};
  CHECK_THROWS_AS(pool.run(100000,
                           [&](std::size_t, unsigned) {
                             ++started;
                             throw std::logic_error("no");
                           }),
                  std::logic_error);
  CHECK(started <= 4);
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

TEST_CASE("a pool that never ran ends, and there is at least one thread") {
  { const WorkerPool unused(8); }
  CHECK(available_threads() >= 1);
}
