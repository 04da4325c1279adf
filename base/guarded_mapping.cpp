// The table of guarded ranges and the handler of SIGBUS. The handler can run in any thread at any time, so
// the table is an array of lock-free atomics that is never resized. An entry is published by its length,
// which is written last and is 0 while the entry is free; the mutex only keeps two threads from taking the
// same entry.

#include "base/guarded_mapping.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/aligned_buffer.h"

namespace sluice::base {
namespace {

/// A mapping as the handler of SIGBUS sees it; an entry of length 0 is free.
struct GuardedRange {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> length{0};
  std::atomic<std::uintptr_t> broken_at{0};  // first address that was not available; 0: none
};

std::array<GuardedRange, 256> guarded_ranges;
std::mutex guarded_ranges_mutex;  // for taking a free entry; the handler takes no lock
struct sigaction previous_action {};

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);

/// Maps a page of zeros at an address of a guarded range; false for other addresses.
bool map_zeros(std::uintptr_t address) {
  for (GuardedRange& range : guarded_ranges) {
    // Unsigned: an address in front of the range wraps around to a large number. A free entry has length 0
    // and matches nothing.
    if (address - range.begin.load() >= range.length.load()) continue;
    void* page = reinterpret_cast<void*>(address / kPageBytes * kPageBytes);
    // Another thread may be reading the page: it reads zeros, or comes here too. The raw system call is for
    // ThreadSanitizer, which would take mmap() for a write that races with that read.
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (::syscall(SYS_mmap, page, kPageBytes, PROT_READ, flags, -1, 0) == -1) return false;
    std::uintptr_t none = 0;
    range.broken_at.compare_exchange_strong(none, address);
    return true;
  }
  return false;
}

// Runs in the thread that touched the page. Only system calls are allowed in a signal handler.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  // The interrupted code may be about to read errno.
  const int saved_errno = errno;
  if (!map_zeros(reinterpret_cast<std::uintptr_t>(info->si_addr))) {
    if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
      previous_action.sa_sigaction(signal, info, context);
    } else if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) {
      ::sigaction(SIGBUS, &previous_action, nullptr);  // the access is repeated and ends the process
    } else {
      previous_action.sa_handler(signal);
    }
  }
  errno = saved_errno;
}

void install_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &previous_action);
}

/// The index of the new entry; guarded_ranges.size() when all are taken.
std::size_t add_range(std::uintptr_t begin, std::uintptr_t length) {
  static std::once_flag installed;
  std::call_once(installed, install_handler);
  const std::scoped_lock lock(guarded_ranges_mutex);
  for (std::size_t i = 0; i < guarded_ranges.size(); ++i) {
    if (guarded_ranges[i].length.load() != 0) continue;
    // The length is stored last: it publishes the entry, and from then on the handler may find it.
    guarded_ranges[i].broken_at.store(0);
    guarded_ranges[i].begin.store(begin);
    guarded_ranges[i].length.store(length);
    return i;
  }
  return guarded_ranges.size();
}

}  // namespace

MappingGuard::MappingGuard(Bytes mapped)
    : index_(mapped.empty() ? guarded_ranges.size()
                            : add_range(reinterpret_cast<std::uintptr_t>(mapped.data()),
                                        align_up(mapped.size(), kPageBytes))) {}

MappingGuard::~MappingGuard() {
  if (is_active()) guarded_ranges[index_].length.store(0);
}

bool MappingGuard::is_active() const { return index_ < guarded_ranges.size(); }

std::optional<std::uint64_t> MappingGuard::broken_at_bytes() const {
  if (!is_active()) return std::nullopt;
  const std::uintptr_t address = guarded_ranges[index_].broken_at.load();
  if (address == 0) return std::nullopt;
  return address - guarded_ranges[index_].begin.load();
}

GuardedMapping::GuardedMapping(const File& file, std::uint64_t length_bytes) {
  if (length_bytes == 0) return;
  // A mapping that cannot be guarded is given up, and the caller reads instead: a fault would end the
  // process.
  void* address = ::mmap(nullptr, length_bytes, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) return;
  const Bytes mapped(static_cast<const std::byte*>(address), length_bytes);
  guard_.emplace(mapped);
  if (guard_->is_active()) {
    bytes_ = mapped;
  } else {
    guard_.reset();
    ::munmap(address, length_bytes);
  }
}

GuardedMapping::~GuardedMapping() {
  guard_.reset();
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void GuardedMapping::release_pages(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  const std::uint64_t begin_bytes = offset_bytes / kPageBytes * kPageBytes;
  std::byte* begin = const_cast<std::byte*>(bytes_.data()) + begin_bytes;
  // For a shared mapping of a file this drops only the entries of the page table. The pages stay in the page
  // cache.
  ::madvise(begin, offset_bytes + length_bytes - begin_bytes, MADV_DONTNEED);
}

}  // namespace sluice::base
