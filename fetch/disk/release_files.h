#pragma once
// The files of a release on the disk, addressed by their index in the layout and opened when they are needed.

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

/// May be used by several threads at once. Errors: io, no_space.
class ReleaseFiles final {
 public:
  /// `paths` has one path per file of the layout, below the storage's folder; the paths of pad files are
  /// unused.
  ReleaseFiles(Storage& storage, const PieceMap& map, std::vector<std::filesystem::path> paths);

  [[nodiscard]] const std::filesystem::path& path(std::size_t file_index) const {
    return paths_.at(file_index);
  }
  /// Creates the file and its folders when they do not exist.
  [[nodiscard]] std::shared_ptr<StorageFile> open_for_writing(std::size_t file_index);

  /// Reads part of a piece; padding reads as zeros. Returns false when a file is missing or too short, and
  /// then the missing bytes are zeros.
  bool read(std::uint64_t piece, std::uint64_t offset_bytes, base::MutableBytes out);
  /// Writes part of a piece to its files; padding is skipped.
  void write(std::uint64_t piece, std::uint64_t offset_bytes, base::Bytes bytes);

  /// Closes the file, because another one is about to have its name.
  void close(std::size_t file_index);

  [[nodiscard]] std::optional<base::FileStamp> find(std::size_t file_index) const {
    return storage_.find(paths_.at(file_index));
  }

 private:
  struct Open {
    std::shared_ptr<StorageFile> file;
    bool writable = false;
  };
  std::shared_ptr<StorageFile> open(std::size_t file_index, bool writable);
  std::shared_ptr<StorageFile> open_existing(std::size_t file_index);  ///< null when the file does not exist

  Storage& storage_;
  const PieceMap& map_;
  std::vector<std::filesystem::path> paths_;
  std::mutex mutex_;  // guards the members below
  std::map<std::size_t, Open> open_;
  std::list<std::size_t> order_;  // oldest first
};

}  // namespace sluice::fetch
