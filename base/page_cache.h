#pragma once
// Reading through the page cache without leaving a trace in it: what was cached stays so, what a reader
// brought in is dropped behind it, so that proving a release does not push a running model out of memory.
//
// The kernel's own read-ahead would hide which is which (it may run megabytes ahead), so it is turned off,
// and every window of the file is asked for in time instead.

#include <cstddef>
#include <cstdint>

#include "base/disk.h"
#include "base/file.h"
#include "base/guarded_mapping.h"

namespace sluice::base {

constexpr std::size_t kCachedReaderChunks = 28;

/// A file whose ranges are read through the page cache; turns the kernel's read-ahead off. May be used by
/// several threads at once. The file and the turn must outlive this object.
class CachedSource final {
 public:
  /// Of the first `length_bytes` of the file.
  CachedSource(const File& file, std::uint64_t length_bytes, DiskTurn* turn);

  [[nodiscard]] const File& file() const { return file_; }
  [[nodiscard]] const GuardedMapping& mapping() const { return mapping_; }
  /// Null where the disk does not mind several readers.
  [[nodiscard]] DiskTurn* turn() const { return turn_; }

  /// How much of the range lies in the page cache, from 0 to 1, by samples: one each half MiB. 0, too, where
  /// the kernel does not tell: of files that one neither owns nor may write.
  [[nodiscard]] double cached_share(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  const File& file_;
  GuardedMapping mapping_;
  DiskTurn* turn_;
  bool may_look_;
};

/// Reads a range of a file from its beginning to its end. Takes the memory of kCachedReaderChunks buffers,
/// counting the one that it is given and pages of the file. Belongs to one thread at a time.
class CachedRangeReader final {
 public:
  struct Options {
    bool drop_cache = true;
    std::uint64_t place = 0;  ///< of the range among all that are read, for DiskTurn
  };

  CachedRangeReader(const CachedSource& source, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                    const Options& options);
  ~CachedRangeReader();
  CachedRangeReader(CachedRangeReader&&) = delete;

  /// The next bytes of the range, in `buffer` or where they lie in the page cache; as many as the buffer
  /// takes, fewer only where the file ends. They are good until the file is closed, or the buffer is used
  /// again. Throws Error{io}.
  [[nodiscard]] Bytes read(MutableBytes buffer);

 private:
  struct Window {
    std::uint64_t begin_bytes = 0;
    std::uint64_t end_bytes = 0;
    double cached_share = 1;  // before it was asked for

    [[nodiscard]] bool is_cached() const { return cached_share == 1; }
  };

  [[nodiscard]] Window open_window(std::uint64_t begin_bytes) const;
  void enter_next_window(MutableBytes scratch);
  void bring_in(const Window& window, MutableBytes scratch) const;
  void drop(const Window& window) const;
  [[nodiscard]] bool is_mapped(std::uint64_t count);
  void let_go();

  const CachedSource& source_;
  Options options_;
  std::uint64_t at_bytes_;
  std::uint64_t end_bytes_;
  Window now_;
  Window next_;
  std::uint64_t held_bytes_;    // from here on pages may count as memory
  std::uint64_t in_use_bytes_;  // where the last chunk begins
};

}  // namespace sluice::base
