#pragma once
// A file mapped read-only, whose bytes can be hashed where they lie in the page cache: the kernel's copy of a
// read would cost a third of the time that hashing takes. A file can be cut short while it is mapped, or its
// disk can fail. Then bytes that are no longer available read as zeros and is_broken() becomes true.
// MappingGuard does the same for memory that other code has mapped, such as MappedFile.
//
// The first mapping installs a handler of SIGBUS. It maps a page of zeros at the faulting address and
// continues; faults at other addresses go to the handler that was installed before, or end the process.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/file.h"

namespace sluice::base {

/// Guards mapped memory as long as it lives, and must be destroyed before the memory is unmapped: its
/// addresses may then belong to another mapping. The number of guards in a process is limited to 256, far
/// above normal use; memory beyond that is not guarded, so a fault in it ends the process.
class MappingGuard final {
 public:
  explicit MappingGuard(Bytes mapped);
  ~MappingGuard();
  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;

  [[nodiscard]] bool is_active() const;
  /// The first byte that was read and was not available, as an offset in the mapping; nothing while there is
  /// none.
  [[nodiscard]] std::optional<std::uint64_t> broken_at_bytes() const;

 private:
  std::size_t index_;  // in the handler's table
};

class GuardedMapping final {
 public:
  /// Maps the first `length_bytes` of the file. bytes() is empty when it cannot be mapped or guarded.
  GuardedMapping(const File& file, std::uint64_t length_bytes);
  ~GuardedMapping();
  GuardedMapping(const GuardedMapping&) = delete;
  GuardedMapping& operator=(const GuardedMapping&) = delete;

  [[nodiscard]] Bytes bytes() const { return bytes_; }

  /// True when a byte was read that the file could not give and that was zero instead.
  [[nodiscard]] bool is_broken() const { return guard_ && guard_->broken_at_bytes(); }

  /// Removes the pages of a range from the memory that counts as this process's. They can be read again, and
  /// then count again.
  void release_pages(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  Bytes bytes_;
  std::optional<MappingGuard> guard_;
};

}  // namespace sluice::base
