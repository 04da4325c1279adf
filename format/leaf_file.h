#pragma once
// NAME.leaves: the SHA-256 of each 16 KiB block (BEP 52's leaves) of a release's files, beside its .torrent.
// A .torrent carries one hash a piece, which says that 16 MiB are wrong; these say which 16 KiB.
//
// Nothing in it is believed: whoever reads leaves compares the tree over them with what the torrent says.
//
//   "SLUICELF", u32 version, u32 number of files; for each file: its pieces root (32 bytes), u64 number of
//   leaves; then the leaves (32 bytes each) of all files in that order. Numbers are little-endian. No files
//   of one block, whose root is their leaf.

#include <cstdint>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "format/release_layout.h"

namespace sluice::format {

/// Reads leaves where they are asked for; holds none. Thread-safe after construction.
class LeafFile final {
 public:
  /// Error{malformed} "FILE: ..." for what is no such file, is cut, or goes on behind its end.
  [[nodiscard]] static LeafFile open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }

  /// Up to `count` leaves of the file with this root, from leaf `first` on; none when it is not in here.
  [[nodiscard]] std::vector<base::Sha256> read(const base::Sha256& root, std::uint64_t first,
                                               std::uint64_t count) const;

 private:
  struct Row {
    std::uint64_t offset_bytes = 0;
    std::uint64_t leaf_count = 0;
  };
  explicit LeafFile(base::File file) : file_(std::move(file)) {}

  base::File file_;
  std::map<base::Sha256, Row> rows_;  // by root
};

/// Writes the leaves of all files of the layout that have some; ReleaseFile::leaves must be there.
void write_leaf_file(const std::filesystem::path& path, const ReleaseLayout& layout);

}  // namespace sluice::format
