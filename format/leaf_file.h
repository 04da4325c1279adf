#pragma once
// NAME.leaves: the SHA-256 of each 16 KiB block (a leaf in BEP 52) of a release's files, next to its
// .torrent. A .torrent has one hash for each piece, which locates damage to 16 MiB; leaves locate it to 16
// KiB.
//
// The file needs no trust: whoever reads leaves compares the root over them with the torrent's.
//
//   "SLUICELF", u32 version, u32 number of files
//   for each file: its pieces root (32 bytes), u64 number of leaves
//   the leaves (32 bytes each) of all files in that order
//
// Numbers are little-endian. Files of a single block are left out, because their root is their leaf.

#include <cstdint>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "format/release_layout.h"

namespace sluice::format {

/// Reads leaves on demand and keeps none in memory. Thread-safe after construction.
class LeafFile final {
 public:
  /// Error{malformed} "FILE: ..." for a file of another format, one that is cut, or one with bytes behind its
  /// end.
  [[nodiscard]] static LeafFile open(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }

  /// Up to `count` leaves of the file with this root, from leaf `first` on; empty when the root is unknown.
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

/// Writes the leaves of the layout's files. ReleaseFile::leaves must be filled in.
void write_leaf_file(const std::filesystem::path& path, const ReleaseLayout& layout);

}  // namespace sluice::format
