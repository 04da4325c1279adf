#pragma once
// A file mapped read-only, whose bytes can be hashed where they lie in the page cache: the kernel's copy
// would cost a third of what hashing costs. Unlike with MappedFile a file that is cut meanwhile, or a disk
// that fails, does not end the process: bytes that are not there any more read as zeros, and is_broken() says
// so. MappingGuard does the same for memory that somebody else has mapped.
//
// That takes a handler of SIGBUS, which is installed with the first mapping. It puts a page of zeros under
// the access and goes on; faults elsewhere go to the handler that was there before, or end the process.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/file.h"

namespace sluice::base {

/// Watches mapped memory as long as it lives. So many can be watched at a time that running out is no matter of
/// normal use; what is not watched then ends the process as it would have without.
class MappingGuard final {
 public:
  explicit MappingGuard(Bytes mapped);
  ~MappingGuard();
  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;

  [[nodiscard]] bool watches() const;
  /// The first byte that was asked for and could not be had, counted from the mapping's start; nothing as long
  /// as there is none.
  [[nodiscard]] std::optional<std::uint64_t> broken_at_bytes() const;

 private:
  std::size_t slot_;  // in the handler's list
};

class GuardedMapping final {
 public:
  /// Of the first `length_bytes` of the file. bytes() is empty where it cannot be mapped, or too many are.
  GuardedMapping(const File& file, std::uint64_t length_bytes);
  ~GuardedMapping();
  GuardedMapping(const GuardedMapping&) = delete;
  GuardedMapping& operator=(const GuardedMapping&) = delete;

  [[nodiscard]] Bytes bytes() const { return bytes_; }

  /// Some bytes were asked for that the file could not give, and were zeros instead.
  [[nodiscard]] bool is_broken() const { return guard_ && guard_->broken_at_bytes(); }

  /// The pages no longer count as memory of this process. They may still be used, and are then counted again.
  void let_go(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  Bytes bytes_;
  std::optional<MappingGuard> guard_;
};

}  // namespace sluice::base
