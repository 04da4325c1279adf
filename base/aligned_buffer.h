#pragma once
// Memory that begins on a page. O_DIRECT demands it, and the kernel copies into it several times faster than
// into memory of malloc(), which begins 16 bytes after a page (measured on Zen 3: 9 against 2 GB/s).

#include <cstddef>
#include <memory>
#include <new>

#include "base/bytes.h"

namespace sluice::base {

constexpr std::size_t kPageBytes =
    4096;  // the page size of x86-64, and at least the alignment that disks demand

class AlignedBuffer final {
 public:
  explicit AlignedBuffer(std::size_t bytes)
      : memory_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kPageBytes}))),
        bytes_(bytes) {}

  [[nodiscard]] MutableBytes bytes() { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kPageBytes}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_;
};

}  // namespace sluice::base
