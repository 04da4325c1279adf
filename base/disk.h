#pragma once
// The kind of disk that a file lies on, and a queue for disks that are fastest when one thread reads at a
// time.

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "base/file.h"

namespace sluice::base {

/// True for spinning disks and network file systems, where readers at several places slow each other down.
/// False for a disk that does not report its kind, and for virtual disks: they report to be spinning because
/// nobody told the kernel otherwise.
[[nodiscard]] bool wants_one_reader(const File& file);

/// Lets one reader at a time at a disk; of the waiting readers, the one with the lowest position goes first.
class DiskQueue final {
 public:
  /// One reader's turn, from the end of the constructor's wait to the destructor.
  class Turn final {
   public:
    Turn(DiskQueue& queue, std::uint64_t position);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    DiskQueue& queue_;
  };

  /// For tests.
  [[nodiscard]] std::size_t waiting_count();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multiset<std::uint64_t> waiting_;  // positions
  bool taken_ = false;
};

/// The queues of all disks that want one reader. May be used by several threads at once.
class DiskQueues final {
 public:
  /// The queue of the file's disk, valid as long as this object; null for a disk that serves several readers
  /// well.
  [[nodiscard]] DiskQueue* queue_for(const File& file);

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::unique_ptr<DiskQueue>> queues_;  // by device; null where none is needed
};

}  // namespace sluice::base
