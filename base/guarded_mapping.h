#pragma once
// A file mapped read-only, whose bytes can be hashed where they lie in the page cache: the kernel's copy
// would cost a third of what hashing costs. Unlike with MappedFile a file that is cut meanwhile, or a disk
// that fails, does not end the process: bytes that are not there any more read as zeros, and is_broken() says
// so.
//
// That takes a handler of SIGBUS, which is installed with the first mapping. It puts a page of zeros under
// the access and goes on; faults elsewhere go to the handler that was there before, or end the process.

#include <atomic>
#include <cstdint>

#include "base/bytes.h"
#include "base/file.h"

namespace sluice::base {

class GuardedMapping final {
 public:
  /// Of the first `length_bytes` of the file. bytes() is empty where it cannot be mapped, or too many are.
  GuardedMapping(const File& file, std::uint64_t length_bytes);
  ~GuardedMapping();
  GuardedMapping(const GuardedMapping&) = delete;
  GuardedMapping& operator=(const GuardedMapping&) = delete;

  [[nodiscard]] Bytes bytes() const { return bytes_; }

  /// Some bytes were asked for that the file could not give, and were zeros instead.
  [[nodiscard]] bool is_broken() const;

  /// The pages no longer count as memory of this process. They may still be used, and are then counted again.
  void let_go(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  Bytes bytes_;
  std::size_t slot_ = 0;  // in the handler's list
};

}  // namespace sluice::base
