#pragma once
// The files of a release on the disk, opened when they are needed, by their index in the layout.

#include <cstddef>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "fetch/disk/storage.h"
#include "fetch/torrent/piece_map.h"

namespace sluice::fetch {

/// Used by several threads at once. Errors: io, no_space.
class ReleaseFiles final {
 public:
  /// `paths`: one a file of the layout, below the storage's folder; those of pad files are not used.
  ReleaseFiles(Storage& storage, const PieceMap& map, std::vector<std::filesystem::path> paths);

  [[nodiscard]] const std::filesystem::path& path(std::size_t file_index) const {
    return paths_.at(file_index);
  }
  /// Makes it, and the folders to it, when it is not there.
  [[nodiscard]] std::shared_ptr<StorageFile> open_for_writing(std::size_t file_index);

  /// Part of a piece; padding and what no file holds is zero. Returns false when a file is missing or ends
  /// before (and is zero there).
  bool read(std::uint64_t piece, std::uint64_t offset_bytes, base::MutableBytes out);
  /// Padding is not written.
  void write(std::uint64_t piece, std::uint64_t offset_bytes, base::Bytes bytes);

  [[nodiscard]] std::optional<base::FileStamp> find(std::size_t file_index) const {
    return storage_.find(paths_.at(file_index));
  }

 private:
  struct Open {
    std::shared_ptr<StorageFile> file;
    bool writable = false;
  };
  std::shared_ptr<StorageFile> open(std::size_t file_index, bool writable);
  std::shared_ptr<StorageFile> open_existing(std::size_t file_index);  ///< null when there is none

  Storage& storage_;
  const PieceMap& map_;
  std::vector<std::filesystem::path> paths_;
  std::mutex mutex_;  // guards what follows
  std::map<std::size_t, Open> open_;
  std::list<std::size_t> order_;  // oldest first
};

}  // namespace sluice::fetch
