// Collects small appends in a buffer of whole pages and writes large ones directly from the caller's memory.
// Without O_DIRECT it asks the kernel to write each part to the disk at once: otherwise dirty pages would
// accumulate until the final sync.

#include "base/file_stream.h"

#include <algorithm>
#include <cstring>

#include "base/invariant.h"

namespace sluice::base {
namespace {

constexpr std::size_t kStagingBytes = 4u << 20;
constexpr std::size_t kStraightBytesMin = 256u << 10;  // smaller appends are gathered into one write

std::size_t whole_pages(std::size_t bytes) { return bytes / kPageBytes * kPageBytes; }

}  // namespace

FileStream::FileStream(File& file, std::uint64_t offset_bytes, bool direct)
    : file_(file),
      direct_(direct && file.bypass_cache()),
      flushed_bytes_(offset_bytes),
      staging_(kStagingBytes) {
  INVARIANT(offset_bytes % kPageBytes == 0);
}

void FileStream::append(Bytes bytes) {
  if (goes_straight(bytes)) {
    flush();
    const std::size_t pages = whole_pages(bytes.size());
    write(bytes.first(pages));
    bytes = bytes.subspan(pages);
  }
  while (!bytes.empty()) {
    const std::size_t take = std::min(bytes.size(), kStagingBytes - staged_bytes_);
    std::memcpy(staging_.bytes().data() + staged_bytes_, bytes.data(), take);
    staged_bytes_ += take;
    bytes = bytes.subspan(take);
    if (staged_bytes_ == kStagingBytes) flush();
  }
}

bool FileStream::goes_straight(Bytes bytes) const {
  return bytes.size() >= kStraightBytesMin && offset_bytes() % kPageBytes == 0 &&
         reinterpret_cast<std::uintptr_t>(bytes.data()) % kPageBytes == 0;
}

void FileStream::flush() {
  const std::size_t pages = whole_pages(staged_bytes_);
  write(Bytes(staging_.bytes()).first(pages));
  staged_bytes_ -= pages;
  // Less than a page stays behind. A direct write takes only whole pages, and later appends fill this one up.
  std::memmove(staging_.bytes().data(), staging_.bytes().data() + pages, staged_bytes_);
}

void FileStream::skip(std::uint64_t bytes) {
  flush();
  INVARIANT(staged_bytes_ == 0 && bytes % kPageBytes == 0);
  flushed_bytes_ += bytes;
}

void FileStream::finish() {
  flush();
  const std::uint64_t end = offset_bytes();
  // Less than a page is left, which cannot bypass the cache.
  if (direct_) file_.use_cache();
  direct_ = false;
  write(Bytes(staging_.bytes()).first(staged_bytes_));
  staged_bytes_ = 0;
  file_.resize(end);
}

void FileStream::write(Bytes bytes) {
  if (bytes.empty()) return;
  file_.write_at(flushed_bytes_, bytes);
  if (!direct_) file_.start_writeback(flushed_bytes_, bytes.size());
  flushed_bytes_ += bytes.size();
}

}  // namespace sluice::base
