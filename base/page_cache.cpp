// Reads a range window by window. While a window is read, the next one is prefetched; when a window is left,
// it is dropped unless it was cached before. Whether it was is asked when it is opened, which is before its
// own prefetch; the kernel's read-ahead is off, so nothing else can have brought it in.
//
// A CachedSource is shared by the readers of a file and does not change; a CachedRangeReader belongs to one
// thread.

#include "base/page_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/aligned_buffer.h"
#include "base/error.h"

namespace sluice::base {
namespace {

constexpr std::uint64_t kSampleBytes = std::uint64_t{512} << 10;
constexpr std::uint64_t kWindowBytes = std::uint64_t{4} << 20;
// A disk head that moves between windows loses the time of reading some hundred KiB.
constexpr std::uint64_t kOrderedWindowBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kRequestBytes = std::uint64_t{128} << 10;  // the kernel truncates longer ones

/// The kernel's condition for an answer of mincore(2); other users are told that everything is cached.
bool may_query_cache(const File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) return false;
  if (::geteuid() == 0 || status.st_uid == ::geteuid()) return true;
  const std::string self = "/proc/self/fd/" + std::to_string(file.descriptor());
  return ::faccessat(AT_FDCWD, self.c_str(), W_OK, AT_EACCESS) == 0;
}

void prefetch(const File& file, std::uint64_t begin_bytes, std::uint64_t end_bytes) {
  for (std::uint64_t at = begin_bytes; at < end_bytes; at += kRequestBytes) {
    const std::uint64_t count = std::min(kRequestBytes, end_bytes - at);
    ::posix_fadvise(file.descriptor(), static_cast<off_t>(at), static_cast<off_t>(count),
                    POSIX_FADV_WILLNEED);
  }
}

}  // namespace

CachedSource::CachedSource(const File& file, std::uint64_t length_bytes, DiskQueue* disk_queue)
    : file_(file),
      mapping_(file, length_bytes),
      disk_queue_(disk_queue),
      may_query_cache_(may_query_cache(file)) {
  // Turns the read-ahead of this descriptor off; windows are prefetched explicitly.
  ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);
}

double CachedSource::cached_share(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  if (length_bytes == 0) return 1;
  // Not knowing counts as not cached: such a window is read and then dropped. That can only drop pages that
  // somebody else had brought in, and never leaves pages of ours.
  if (!may_query_cache_ || mapping_.bytes().empty()) return 0;
  unsigned count = 0;
  unsigned cached = 0;
  const auto sample = [&](std::uint64_t at_bytes) {
    std::byte* page = const_cast<std::byte*>(mapping_.bytes().data()) + at_bytes / kPageBytes * kPageBytes;
    unsigned char in = 0;
    ++count;
    if (::mincore(page, kPageBytes, &in) == 0 && (in & 1) != 0) ++cached;
  };
  for (std::uint64_t at = offset_bytes; at < offset_bytes + length_bytes; at += kSampleBytes) sample(at);
  sample(offset_bytes + length_bytes - 1);  // the last page, between two samples
  return static_cast<double>(cached) / count;
}

CachedRangeReader::CachedRangeReader(const CachedSource& source, std::uint64_t offset_bytes,
                                     std::uint64_t length_bytes, const Options& options)
    : source_(source),
      options_(options),
      at_bytes_(offset_bytes),
      end_bytes_(offset_bytes + length_bytes),
      next_(open_window(offset_bytes)),
      mapped_begin_bytes_(offset_bytes),
      in_use_bytes_(offset_bytes) {}

CachedRangeReader::~CachedRangeReader() {
  // A reader may end early, within a window that it has prefetched.
  in_use_bytes_ = at_bytes_;
  release_pages();
  drop(now_);
  drop(next_);
}

Bytes CachedRangeReader::read(MutableBytes buffer) {
  if (at_bytes_ >= now_.end_bytes && at_bytes_ < end_bytes_) enter_next_window(buffer);
  // The 4 chunks are for the buffer, the chunk in use and the next one, which are not counted here.
  if (in_use_bytes_ - mapped_begin_bytes_ >= (kCachedReaderChunks - 4) * buffer.size()) release_pages();
  in_use_bytes_ = at_bytes_;
  // Hashing from the mapping saves the copy, but only for bytes that are in the cache.
  if (is_mapped(buffer.size())) {
    at_bytes_ += buffer.size();
    return source_.mapping().bytes().subspan(in_use_bytes_, buffer.size());
  }
  const std::size_t got = source_.file().read_at(at_bytes_, buffer);
  at_bytes_ += got;
  return buffer.first(got);
}

/// True when the next `count` bytes are read from the mapping. Only cached bytes are: pages that are not
/// would be read from the disk one by one, and mapped pages could not be dropped from the cache.
bool CachedRangeReader::is_mapped(std::uint64_t count) {
  const bool cached = now_.is_cached() && (at_bytes_ + count <= now_.end_bytes || next_.is_cached());
  return cached && count > 0 && at_bytes_ + count <= source_.mapping().bytes().size();
}

/// Releases all pages before the last chunk, which may still be in use.
void CachedRangeReader::release_pages() {
  if (in_use_bytes_ > mapped_begin_bytes_ && !source_.mapping().bytes().empty())
    source_.mapping().release_pages(mapped_begin_bytes_, in_use_bytes_ - mapped_begin_bytes_);
  mapped_begin_bytes_ = in_use_bytes_;
}

/// Finds out whether the window is cached, and prefetches it when it is not. On a disk for one reader, load()
/// does that when this reader's turn comes.
CachedRangeReader::Window CachedRangeReader::open_window(std::uint64_t begin_bytes) const {
  const std::uint64_t length_bytes = source_.disk_queue() != nullptr ? kOrderedWindowBytes : kWindowBytes;
  Window window{begin_bytes, std::min(begin_bytes + length_bytes, end_bytes_)};
  window.cached_share = source_.cached_share(begin_bytes, window.end_bytes - begin_bytes);
  if (!window.is_cached() && source_.disk_queue() == nullptr)
    prefetch(source_.file(), begin_bytes, window.end_bytes);
  return window;
}

void CachedRangeReader::enter_next_window(MutableBytes scratch) {
  drop(now_);
  now_ = next_;
  next_ = open_window(now_.end_bytes);
  if (!now_.is_cached() && source_.disk_queue() != nullptr) load(now_, scratch);
}

/// Reads the whole window within one turn, so that no other reader moves the disk's head. Failures are
/// ignored: they show again when the bytes are read.
void CachedRangeReader::load(const Window& window, MutableBytes scratch) const {
  const DiskQueue::Turn turn(*source_.disk_queue(), options_.position);
  prefetch(source_.file(), window.begin_bytes, window.end_bytes);
  try {
    std::uint64_t at_bytes = window.begin_bytes;
    while (at_bytes < window.end_bytes) {
      const auto count = std::min<std::uint64_t>(scratch.size(), window.end_bytes - at_bytes);
      const std::size_t got =
          source_.file().read_at(at_bytes, scratch.first(static_cast<std::size_t>(count)));
      if (got == 0) return;
      at_bytes += got;
    }
  } catch (const Error&) {
    return;
  }
}

/// Keeps windows of which more than half was cached before.
void CachedRangeReader::drop(const Window& window) const {
  if (options_.drop_cache && window.cached_share < 0.5)
    source_.file().drop_cache(window.begin_bytes, window.end_bytes - window.begin_bytes);
}

}  // namespace sluice::base
