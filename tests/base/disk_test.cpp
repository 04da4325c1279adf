#include "base/disk.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;

TEST_CASE("one at a time is at a disk, and of those that wait the one whose place comes first") {
  DiskTurn turn;
  std::vector<std::uint64_t> order;
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  {
    const DiskTurn::Holder first(turn, 99);
    for (const std::uint64_t place : {5u, 3u, 8u, 1u, 3u, 7u}) {
      threads.emplace_back([&, place] {
        const DiskTurn::Holder mine(turn, place);
        most = std::max(most.load(), ++inside);
        order.push_back(place);
        --inside;
      });
    }
    while (turn.waiting_count() < threads.size()) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(most == 1);
  CHECK(order == std::vector<std::uint64_t>{1, 3, 3, 5, 7, 8});
}

TEST_CASE("files of one disk share its turn") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("1"));
  write_file(dir / "g", as_bytes("2"));
  Disks disks;
  const File file = File::open_read(dir / "f");
  const File other = File::open_read(dir / "g");
  CHECK(disks.turn_for(file) == disks.turn_for(other));
  CHECK((disks.turn_for(file) != nullptr) == wants_one_reader(file));
}
