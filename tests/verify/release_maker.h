#pragma once
// Makes a release on disk and the layout that its torrent would give, straight from the definitions (BEP 3,
// 47, 52) and without the code under test: the whole stream in memory, one hash at a time.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "format/release_layout.h"

namespace sluice::tests {

using Content = std::vector<std::byte>;

struct MadeFile {
  std::string path;
  Content content;
  bool pad = false;
};

enum class Hashes : std::uint8_t {
  v1,
  v2,         ///< roots and piece layers, as a .torrent has them
  v2_leaves,  ///< and leaves, as a client learns them from peers
  v2_roots,   ///< roots alone, as a magnet link's metadata has them
  hybrid,     ///< v1 and v2, files padded to whole pieces
};

struct MadeRelease {
  std::uint64_t piece_bytes = 16384;
  std::vector<MadeFile> files;  ///< with pad files

  [[nodiscard]] MadeFile& file(const std::string& path);
};

/// Puts a pad file after each file that does not end with a piece, but for the last (BEP 47).
void add_pads(MadeRelease& release);

void write_release(const std::filesystem::path& folder, const MadeRelease& release);

[[nodiscard]] format::ReleaseLayout make_layout(const MadeRelease& release, Hashes hashes);

}  // namespace sluice::tests
