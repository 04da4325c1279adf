// A cache of open files, because opening walks the path step by step (base/directory.h). The oldest file is
// closed first; a thread that still uses it keeps it open through its shared pointer.

#include "fetch/disk/release_files.h"

#include <algorithm>
#include <utility>

namespace sluice::fetch {
namespace {

constexpr std::size_t kOpenMax = 200;  // far below the usual limit of 1024 descriptors

}  // namespace

ReleaseFiles::ReleaseFiles(Storage& storage, const PieceMap& map, std::vector<std::filesystem::path> paths)
    : storage_(storage), map_(map), paths_(std::move(paths)) {}

std::shared_ptr<StorageFile> ReleaseFiles::open_for_writing(std::size_t file_index) {
  return open(file_index, true);
}

std::shared_ptr<StorageFile> ReleaseFiles::open(std::size_t file_index, bool writable) {
  const std::lock_guard lock(mutex_);
  const auto known = open_.find(file_index);
  if (known != open_.end() && (known->second.writable || !writable)) return known->second.file;
  const auto& path = paths_.at(file_index);
  Open opened{writable ? storage_.open_or_create(path) : storage_.open_read(path), writable};
  if (known != open_.end()) {  // it was open for reading only
    known->second = opened;
    return opened.file;
  }
  if (open_.size() >= kOpenMax) {  // a thread that still uses the file holds a reference to it
    open_.erase(order_.front());
    order_.pop_front();
  }
  order_.push_back(file_index);
  return open_.emplace(file_index, std::move(opened)).first->second.file;
}

std::shared_ptr<StorageFile> ReleaseFiles::open_existing(std::size_t file_index) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = open_.find(file_index);
    if (known != open_.end()) return known->second.file;
  }
  // A file that does not exist is normal during a fetch, so it must not cost an exception.
  return find(file_index) ? open(file_index, false) : nullptr;
}

void ReleaseFiles::close(std::size_t file_index) {
  const std::lock_guard lock(mutex_);
  if (open_.erase(file_index) > 0) order_.remove(file_index);
}

bool ReleaseFiles::read(std::uint64_t piece, std::uint64_t offset_bytes, base::MutableBytes out) {
  std::ranges::fill(out, std::byte{0});
  bool whole = true;
  for (const PieceSlice& slice : map_.slices(piece, offset_bytes, out.size())) {
    const auto part = out.subspan(slice.piece_offset_bytes - offset_bytes, slice.length_bytes);
    const auto file = open_existing(slice.file_index);
    // The other slices are still read, so that the caller has zeros only where bytes are missing.
    whole = file && file->read_at(slice.file_offset_bytes, part) == part.size() && whole;
  }
  return whole;
}

void ReleaseFiles::write(std::uint64_t piece, std::uint64_t offset_bytes, base::Bytes bytes) {
  for (const PieceSlice& slice : map_.slices(piece, offset_bytes, bytes.size()))
    open(slice.file_index, true)
        ->write_at(slice.file_offset_bytes,
                   bytes.subspan(slice.piece_offset_bytes - offset_bytes, slice.length_bytes));
}

}  // namespace sluice::fetch
