#pragma once
// Reading through the page cache without leaving a trace in it: what was cached stays so, what a reader
// brought in is dropped behind it, so that proving a release does not push a running model out of memory.
//
// The kernel's own read-ahead would hide which is which (it may run megabytes ahead), so it is turned off,
// and every window of the file is asked for in time instead.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/disk.h"
#include "base/file.h"

namespace sluice::base {

/// Which parts of a file lie in the page cache. May be asked by several threads at once.
class PageCacheView final {
 public:
  /// Of the first `length_bytes` of a file, which must outlive this object.
  PageCacheView(const File& file, std::uint64_t length_bytes);
  ~PageCacheView();
  PageCacheView(const PageCacheView&) = delete;
  PageCacheView& operator=(const PageCacheView&) = delete;

  /// By samples, one each half MiB. False, too, where the kernel does not tell: of files that one neither
  /// owns nor may write.
  [[nodiscard]] bool holds(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  std::byte* pages_ = nullptr;  // mapped, never touched
  std::uint64_t length_bytes_;
};

/// A file whose ranges are read through the page cache; turns the kernel's read-ahead off. The file and the
/// turn must outlive this object.
struct CachedSource {
  CachedSource(const File& opened, std::uint64_t length_bytes, DiskTurn* disk_turn);

  const File& file;
  PageCacheView view;
  DiskTurn* turn;  ///< null where the disk does not mind several readers
};

/// Reads a range of a file from its beginning to its end. Belongs to one thread at a time.
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

  /// Reads the next bytes of the range into `out`; fewer only where the file ends. Throws Error{io}.
  [[nodiscard]] Bytes read(MutableBytes out);

 private:
  struct Window {
    std::uint64_t begin_bytes = 0;
    std::uint64_t end_bytes = 0;
    bool cached = true;  // before it was asked for
  };

  [[nodiscard]] Window open_window(std::uint64_t begin_bytes) const;
  void enter_next_window(MutableBytes scratch);
  void bring_in(const Window& window, MutableBytes scratch) const;
  void drop(const Window& window) const;

  const CachedSource& source_;
  Options options_;
  std::uint64_t at_bytes_;
  std::uint64_t end_bytes_;
  Window now_;
  Window next_;
};

}  // namespace sluice::base
