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
// A head that moves between windows loses the time of some hundred KiB.
constexpr std::uint64_t kOrderedWindowBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kRequestBytes = std::uint64_t{128} << 10;  // the kernel cuts longer ones short

/// The kernel's condition for telling by mincore(2); to others it says that all is cached.
bool may_look(const File& file) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) return false;
  if (::geteuid() == 0 || status.st_uid == ::geteuid()) return true;
  const std::string self = "/proc/self/fd/" + std::to_string(file.descriptor());
  return ::faccessat(AT_FDCWD, self.c_str(), W_OK, AT_EACCESS) == 0;
}

void ask_for(const File& file, std::uint64_t begin_bytes, std::uint64_t end_bytes) {
  for (std::uint64_t at = begin_bytes; at < end_bytes; at += kRequestBytes) {
    const std::uint64_t count = std::min(kRequestBytes, end_bytes - at);
    ::posix_fadvise(file.descriptor(), static_cast<off_t>(at), static_cast<off_t>(count),
                    POSIX_FADV_WILLNEED);
  }
}

}  // namespace

PageCacheView::PageCacheView(const File& file, std::uint64_t length_bytes) : length_bytes_(length_bytes) {
  if (length_bytes == 0 || !may_look(file)) return;
  void* address = ::mmap(nullptr, length_bytes, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address != MAP_FAILED) pages_ = static_cast<std::byte*>(address);
}

PageCacheView::~PageCacheView() {
  if (pages_ != nullptr) ::munmap(pages_, length_bytes_);
}

bool PageCacheView::holds(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  if (pages_ == nullptr) return false;
  const auto is_in = [&](std::uint64_t at_bytes) {
    unsigned char in = 0;
    return ::mincore(pages_ + at_bytes / kPageBytes * kPageBytes, kPageBytes, &in) == 0 && (in & 1) != 0;
  };
  for (std::uint64_t at = offset_bytes; at < offset_bytes + length_bytes; at += kSampleBytes)
    if (!is_in(at)) return false;
  return length_bytes == 0 || is_in(offset_bytes + length_bytes - 1);
}

CachedSource::CachedSource(const File& opened, std::uint64_t length_bytes, DiskTurn* disk_turn)
    : file(opened), view(opened, length_bytes), turn(disk_turn) {
  ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);
}

CachedRangeReader::CachedRangeReader(const CachedSource& source, std::uint64_t offset_bytes,
                                     std::uint64_t length_bytes, const Options& options)
    : source_(source),
      options_(options),
      at_bytes_(offset_bytes),
      end_bytes_(offset_bytes + length_bytes),
      next_(open_window(offset_bytes)) {}

CachedRangeReader::~CachedRangeReader() {
  drop(now_);
  drop(next_);
}

Bytes CachedRangeReader::read(MutableBytes out) {
  if (at_bytes_ >= now_.end_bytes && at_bytes_ < end_bytes_) enter_next_window(out);
  const std::size_t got = source_.file.read_at(at_bytes_, out);
  at_bytes_ += got;
  return out.first(got);
}

/// Looks whether the window is cached, and asks for it when it is not; on a disk for one reader, that waits
/// until it is its turn.
CachedRangeReader::Window CachedRangeReader::open_window(std::uint64_t begin_bytes) const {
  const std::uint64_t length_bytes = source_.turn != nullptr ? kOrderedWindowBytes : kWindowBytes;
  Window window{begin_bytes, std::min(begin_bytes + length_bytes, end_bytes_)};
  window.cached = source_.view.holds(begin_bytes, window.end_bytes - begin_bytes);
  if (!window.cached && source_.turn == nullptr) ask_for(source_.file, begin_bytes, window.end_bytes);
  return window;
}

void CachedRangeReader::enter_next_window(MutableBytes scratch) {
  drop(now_);
  now_ = next_;
  next_ = open_window(now_.end_bytes);
  if (!now_.cached && source_.turn != nullptr) bring_in(now_, scratch);
}

/// In one go, so that others do not come between; a failure shows again when the bytes are read in earnest.
void CachedRangeReader::bring_in(const Window& window, MutableBytes scratch) const {
  const DiskTurn::Holder turn(*source_.turn, options_.place);
  ask_for(source_.file, window.begin_bytes, window.end_bytes);
  try {
    std::uint64_t at_bytes = window.begin_bytes;
    while (at_bytes < window.end_bytes) {
      const auto count = std::min<std::uint64_t>(scratch.size(), window.end_bytes - at_bytes);
      const std::size_t got = source_.file.read_at(at_bytes, scratch.first(static_cast<std::size_t>(count)));
      if (got == 0) return;
      at_bytes += got;
    }
  } catch (const Error&) {
    return;
  }
}

void CachedRangeReader::drop(const Window& window) const {
  if (options_.drop_cache && !window.cached)
    source_.file.drop_cache(window.begin_bytes, window.end_bytes - window.begin_bytes);
}

}  // namespace sluice::base
