#include "base/disk.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;

TEST_CASE("one reader at a time uses a disk, and of those that wait the lowest position goes first") {
  DiskQueue queue;
  std::vector<std::uint64_t> order;
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  {
    const DiskQueue::Turn first(queue, 99);
    for (const std::uint64_t position : {5u, 3u, 8u, 1u, 3u, 7u}) {
      threads.emplace_back([&, position] {
        const DiskQueue::Turn mine(queue, position);
        most = std::max(most.load(), ++inside);
        order.push_back(position);
        --inside;
      });
    }
    while (queue.waiting_count() < threads.size()) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(most == 1);
  CHECK(order == std::vector<std::uint64_t>{1, 3, 3, 5, 7, 8});
}

TEST_CASE("files of one disk share its queue") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("1"));
  write_file(dir / "g", as_bytes("2"));
  DiskQueues queues;
  const File file = File::open_read(dir / "f");
  const File other = File::open_read(dir / "g");
  CHECK(queues.queue_for(file) == queues.queue_for(other));
  CHECK((queues.queue_for(file) != nullptr) == wants_one_reader(file));
}
