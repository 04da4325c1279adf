#include "base/task_thread.h"

#include <doctest/doctest.h>

#include <chrono>
#include <future>
#include <thread>
#include <vector>

namespace sluice::base {

TEST_CASE("tasks are done in order, one after the other") {
  std::vector<int> done;
  std::promise<void> all;
  TaskThread thread;
  for (int i = 0; i < 1000; ++i) thread.post([&done, i] { done.push_back(i); });
  thread.post([&all] { all.set_value(); });
  all.get_future().wait();
  REQUIRE(done.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(done[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("the destructor waits for the running task and drops the others") {
  std::promise<void> begun;
  std::promise<void> gate;
  bool finished = false;
  bool dropped = true;
  std::thread opener;
  {
    TaskThread thread;
    thread.post([&] {
      begun.set_value();
      gate.get_future().wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the destructor is at work by then
      finished = true;
    });
    thread.post([&] { dropped = false; });
    begun.get_future().wait();
    opener = std::thread([&gate] { gate.set_value(); });
  }
  CHECK(finished);
  CHECK(dropped);
  opener.join();
}

}  // namespace sluice::base
