#pragma once
// What a .torrent says about a release: its files, and the hashes that verify them. It is a plain value:
// fetch makes it from a .torrent, verify compares a folder with it, and neither needs the other.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"

namespace sluice::format {

struct ReleaseFile {
  /// Path below the release folder with '/' between elements, already checked by check_release_path.
  /// In a single-file torrent there is no folder, and the path is the torrent's name.
  std::string path;
  std::uint64_t length_bytes = 0;
  bool pad = false;  ///< BEP 47 padding: zeros in the v1 stream, never on disk

  // BEP 52. Absent in a v1 torrent, and for empty files.
  std::optional<base::Sha256> root;  ///< "pieces root"
  std::vector<base::Sha256>
      piece_layer;  ///< one for each v2 piece; empty when unknown, or when the file fits one piece
  std::vector<base::Sha256> leaves;  ///< one for each 16 KiB block; empty when unknown
};

struct ReleaseLayout {
  std::string name;  ///< the torrent's name: the folder, or the only file
  bool single_file = false;
  std::uint64_t piece_bytes = 0;
  std::optional<base::Sha1> infohash_v1;
  std::optional<base::Sha256> infohash_v2;
  std::vector<ReleaseFile> files;     ///< in torrent order; v1 pieces run over them in this order
  std::vector<base::Sha1> v1_pieces;  ///< empty in a v2-only torrent
  /// Sentences about what the reader corrected or ignored, such as names that are not in UTF-8. Few and
  /// short.
  std::vector<std::string> warnings;

  [[nodiscard]] std::uint64_t payload_bytes() const;  ///< without pad files
};

/// Refuses a path that could do harm or deceive: an absolute path, empty elements, "." and "..", control or
/// bidirectional-override characters, malformed UTF-8, a backslash, elements over 255 bytes, more than 16
/// elements. Throws Error{malformed} "SUBJECT: unsafe file name 'x': why".
void check_release_path(std::string_view path, std::string_view subject);

/// Applies check_release_path to the name and all files, and refuses two equal paths, and a file where
/// another path has a folder. Throws Error{malformed}.
void check_release_names(const ReleaseLayout& layout, std::string_view subject);

/// Two paths that differ, but are one file where the file system ignores case, or would be a file and a
/// folder of one name there.
struct CaseClash {
  std::string first;
  std::string second;
};
/// Nothing when the names are distinct on every file system. The names have passed check_release_names.
[[nodiscard]] std::optional<CaseClash> find_case_clash(const ReleaseLayout& layout);

/// For names that are to be published: Error{malformed} when one is not in Unicode's normal form C, or two
/// differ in case only, because file systems and clients treat such names differently.
void check_portable_names(const ReleaseLayout& layout, std::string_view subject);

}  // namespace sluice::format
