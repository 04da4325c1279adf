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

/// What the handler of SIGBUS knows of a mapping; a length of 0 is a slot that is free.
struct Slot {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> length{0};
  std::atomic<std::uintptr_t> broken_at{0};  // the first address that could not be had; 0: none
};

std::array<Slot, 256> slots;
std::mutex slots_mutex;
struct sigaction previous {};

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);

bool give_zeros(std::uintptr_t address) {
  for (Slot& slot : slots) {
    if (address - slot.begin.load() >= slot.length.load()) continue;
    void* page = reinterpret_cast<void*>(address / kPageBytes * kPageBytes);
    // Another thread may be reading the page: it finds zeros, or comes here too. ThreadSanitizer would take
    // mmap() for a write that races with it.
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (::syscall(SYS_mmap, page, kPageBytes, PROT_READ, flags, -1, 0) == -1) return false;
    std::uintptr_t none = 0;
    slot.broken_at.compare_exchange_strong(none, address);
    return true;
  }
  return false;
}

// Runs in whichever thread has touched the page; calls nothing but the kernel.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  if (!give_zeros(reinterpret_cast<std::uintptr_t>(info->si_addr))) {
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
      previous.sa_sigaction(signal, info, context);
    } else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
      ::sigaction(SIGBUS, &previous, nullptr);  // the access is made again, and ends the process
    } else {
      previous.sa_handler(signal);
    }
  }
  errno = saved_errno;
}

void install_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &previous);
}

/// slots.size() when all are taken.
std::size_t take_slot(std::uintptr_t begin, std::uintptr_t length) {
  static std::once_flag installed;
  std::call_once(installed, install_handler);
  const std::scoped_lock lock(slots_mutex);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].length.load() != 0) continue;
    slots[i].broken_at.store(0);
    slots[i].begin.store(begin);
    slots[i].length.store(length);
    return i;
  }
  return slots.size();
}

}  // namespace

MappingGuard::MappingGuard(Bytes mapped)
    : slot_(mapped.empty() ? slots.size()
                           : take_slot(reinterpret_cast<std::uintptr_t>(mapped.data()),
                                       align_up(mapped.size(), kPageBytes))) {}

MappingGuard::~MappingGuard() {
  if (watches()) slots[slot_].length.store(0);
}

bool MappingGuard::watches() const { return slot_ < slots.size(); }

std::optional<std::uint64_t> MappingGuard::broken_at_bytes() const {
  if (!watches()) return std::nullopt;
  const std::uintptr_t address = slots[slot_].broken_at.load();
  if (address == 0) return std::nullopt;
  return address - slots[slot_].begin.load();
}

GuardedMapping::GuardedMapping(const File& file, std::uint64_t length_bytes) {
  if (length_bytes == 0) return;
  void* address = ::mmap(nullptr, length_bytes, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) return;
  const Bytes mapped(static_cast<const std::byte*>(address), length_bytes);
  guard_.emplace(mapped);
  if (guard_->watches()) {
    bytes_ = mapped;
  } else {
    ::munmap(address, length_bytes);
  }
}

GuardedMapping::~GuardedMapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void GuardedMapping::let_go(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  const std::uint64_t begin_bytes = offset_bytes / kPageBytes * kPageBytes;
  std::byte* begin = const_cast<std::byte*>(bytes_.data()) + begin_bytes;
  ::madvise(begin, offset_bytes + length_bytes - begin_bytes, MADV_DONTNEED);
}

}  // namespace sluice::base
