// Kinds of disks as the kernel reports them: the magic number of a network file system (statfs), and the
// rotational flag of a block device in sysfs. A question without an answer means that several readers are
// fine.

#include "base/disk.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

// statfs(2) and the kernel's own headers
constexpr std::uint64_t kNetworkFileSystems[] = {
    0x6969,      // NFS
    0xff534d42,  // CIFS
    0xfe534d42,  // SMB 2
    0x517b,      // SMB
    0x00c36400,  // Ceph
    0x01021997,  // 9P
    0x5346414f,  // AFS
    0x6b414653,  // AFS, in the kernel
    0x73757245,  // Coda
    0x65735546,  // FUSE: sshfs and others
};

bool is_network(const File& file) {
  struct statfs status {};
  if (::fstatfs(file.descriptor(), &status) != 0) return false;
  const auto type = static_cast<std::uint32_t>(status.f_type);
  return std::ranges::find(kNetworkFileSystems, type) != std::end(kNetworkFileSystems);
}

// The rotational flag of a virtio disk says nothing about the disk behind it, and is set by default.
bool is_virtual(const fs::path& disk) {
  std::error_code none;
  return fs::read_symlink(disk / "device/driver", none).filename() == "virtio_blk";
}

bool spins(const File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) return false;
  std::error_code none;
  const std::string number =
      std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
  fs::path disk = fs::canonical("/sys/dev/block/" + number, none);
  if (none) return false;  // tmpfs, btrfs and overlay have no block device of their own
  // A partition has no queue of its own; its disk does.
  if (fs::exists(disk / "partition", none)) disk = disk.parent_path();
  char rotational = '0';
  std::ifstream(disk / "queue/rotational") >> rotational;
  return rotational == '1' && !is_virtual(disk);
}

}  // namespace

bool wants_one_reader(const File& file) { return is_network(file) || spins(file); }

DiskQueue::Turn::Turn(DiskQueue& queue, std::uint64_t position) : queue_(queue) {
  std::unique_lock lock(queue_.mutex_);
  // The waiting thread with the lowest position goes first, so that the readers move over the disk in one
  // direction. waiting_ is a multiset, and its iterators stay valid while others come and go.
  const auto mine = queue_.waiting_.insert(position);
  queue_.changed_.wait(lock, [&] { return !queue_.taken_ && queue_.waiting_.begin() == mine; });
  queue_.waiting_.erase(mine);
  queue_.taken_ = true;
}

DiskQueue::Turn::~Turn() {
  const std::scoped_lock lock(queue_.mutex_);
  queue_.taken_ = false;
  // All of them, because only the first in the order may go on.
  queue_.changed_.notify_all();
}

std::size_t DiskQueue::waiting_count() {
  const std::scoped_lock lock(mutex_);
  return waiting_.size();
}

DiskQueue* DiskQueues::queue_for(const File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) return nullptr;
  const std::scoped_lock lock(mutex_);
  // A null pointer is kept for disks that serve several readers well, so that sysfs is asked once per disk.
  const auto [entry, is_new] = queues_.try_emplace(status.st_dev);
  if (is_new && wants_one_reader(file)) entry->second = std::make_unique<DiskQueue>();
  return entry->second.get();
}

}  // namespace sluice::base
