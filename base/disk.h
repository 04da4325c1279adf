#pragma once
// What kind of disk a file lies on, and taking turns on one that wants to be read in order.

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "base/file.h"

namespace sluice::base {

/// True for spinning disks and network file systems, where readers in several places hinder each other. A
/// disk that does not say what it is counts as one that does not mind. Virtual disks say that they spin
/// because nobody told the kernel otherwise; they are not believed.
[[nodiscard]] bool wants_one_reader(const File& file);

/// Lets one reader at a time at a disk: of those that wait, the one whose place comes first.
class DiskTurn final {
 public:
  class Holder final {
   public:
    Holder(DiskTurn& turn, std::uint64_t place);
    ~Holder();
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

   private:
    DiskTurn& turn_;
  };

  /// For tests.
  [[nodiscard]] std::size_t waiting_count();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multiset<std::uint64_t> waiting_;
  bool taken_ = false;
};

/// The turns of all disks that want one reader. May be used by several threads at once.
class Disks final {
 public:
  /// Nothing for a disk that does not mind. Lives as long as this object.
  [[nodiscard]] DiskTurn* turn_for(const File& file);

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::unique_ptr<DiskTurn>> turns_;  // by device; null where none is needed
};

}  // namespace sluice::base
