#pragma once
// Reading through the page cache without changing what it holds: pages that were cached stay, pages that a
// reader brought in are dropped after use. So verifying a release does not push a running model out of
// memory.
//
// The kernel's own read-ahead runs megabytes ahead and would hide which pages were cached before. It is
// turned off, and each window of the file is prefetched instead.

#include <cstddef>
#include <cstdint>

#include "base/disk.h"
#include "base/file.h"
#include "base/guarded_mapping.h"

namespace sluice::base {

constexpr std::size_t kCachedReaderChunks = 28;

/// A file whose ranges are read through the page cache; turns the kernel's read-ahead off. May be used by
/// several threads at once. The file and the disk queue must outlive this object.
class CachedSource final {
 public:
  /// The source is the first `length_bytes` of the file. `disk_queue` may be null.
  CachedSource(const File& file, std::uint64_t length_bytes, DiskQueue* disk_queue);

  [[nodiscard]] const File& file() const { return file_; }
  [[nodiscard]] const GuardedMapping& mapping() const { return mapping_; }
  /// Null when the disk serves several readers well.
  [[nodiscard]] DiskQueue* disk_queue() const { return disk_queue_; }

  /// The share of a range that lies in the page cache, from 0 to 1, estimated from one sample each 512 KiB.
  /// Also 0 when the kernel does not tell: for files that this user neither owns nor may write.
  [[nodiscard]] double cached_share(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  const File& file_;
  GuardedMapping mapping_;
  DiskQueue* disk_queue_;
  bool may_query_cache_;
};

/// Reads a range of a file from its beginning to its end. Takes the memory of kCachedReaderChunks buffers,
/// which includes the caller's buffer and mapped pages of the file. Belongs to one thread at a time.
class CachedRangeReader final {
 public:
  struct Options {
    bool drop_cache = true;
    std::uint64_t position = 0;  ///< in the DiskQueue: readers with lower positions go first
  };

  CachedRangeReader(const CachedSource& source, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                    const Options& options);
  ~CachedRangeReader();
  CachedRangeReader(CachedRangeReader&&) = delete;

  /// The next bytes of the range, either in `buffer` or mapped from the page cache: as many as the buffer
  /// holds, fewer only where the file ends. They are valid until the file is closed or the buffer is used
  /// again. Throws Error{io}.
  [[nodiscard]] Bytes read(MutableBytes buffer);

 private:
  struct Window {
    std::uint64_t begin_bytes = 0;
    std::uint64_t end_bytes = 0;
    double cached_share = 1;  // before it was prefetched

    [[nodiscard]] bool is_cached() const { return cached_share == 1; }
  };

  [[nodiscard]] Window open_window(std::uint64_t begin_bytes) const;
  void enter_next_window(MutableBytes scratch);
  void load(const Window& window, MutableBytes scratch) const;
  void drop(const Window& window) const;
  [[nodiscard]] bool is_mapped(std::uint64_t count);
  void release_pages();

  const CachedSource& source_;
  Options options_;
  std::uint64_t at_bytes_;
  std::uint64_t end_bytes_;
  Window now_;
  Window next_;
  std::uint64_t mapped_begin_bytes_;  // pages from here on may count as memory of this process
  std::uint64_t in_use_bytes_;        // where the chunk begins that the caller has
};

}  // namespace sluice::base
