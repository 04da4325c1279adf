#include "base/task_thread.h"

#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <vector>

namespace sluice::base {

TEST_CASE("tasks are done in order, and waited for up to the last few") {
  std::vector<int> done;
  std::promise<void> gate;
  TaskThread thread;
  for (int i = 0; i < 100; ++i) thread.post([&done, i] { done.push_back(i); });
  thread.post([&gate] { gate.get_future().wait(); });
  thread.post([&done] { done.push_back(100); });
  thread.wait(2);
  CHECK(done.size() == 100);
  gate.set_value();
  thread.wait();
  REQUIRE(done.size() == 101);
  for (int i = 0; i <= 100; ++i) CHECK(done[static_cast<std::size_t>(i)] == i);
  thread.wait();  // for nothing
}

TEST_CASE("what a task throws comes out of wait(), and what was behind it is dropped") {
  TaskThread thread;
  std::promise<void> gate;
  bool done = false;
  thread.post([&gate] {
    gate.get_future().wait();
    throw std::runtime_error("the disk is full");
  });
  thread.post([&done] { done = true; });
  gate.set_value();
  CHECK_THROWS_WITH(thread.wait(), "the disk is full");
  thread.wait();
  CHECK_FALSE(done);
  thread.post([&done] { done = true; });
  thread.wait();
  CHECK(done);
}

TEST_CASE("a thread that goes finishes what it has begun") {
  std::promise<void> begun;
  std::promise<void> gate;
  std::atomic<int> done = 0;
  std::thread opener;
  {
    TaskThread thread;
    thread.post([&] {
      begun.set_value();
      gate.get_future().wait();
      ++done;
    });
    begun.get_future().wait();
    opener = std::thread([&gate] { gate.set_value(); });
  }
  CHECK(done == 1);
  opener.join();
}

}  // namespace sluice::base
