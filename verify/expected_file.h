#pragma once
// What the torrent and the manifest of a release say about each of its files. The torrent's files come first
// and in its order, because its v1 pieces form one stream over them; files that only the manifest lists
// follow.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/verify.h"

namespace sluice::verify {

struct ExpectedFile {
  std::string path;
  const format::ReleaseFile* released = nullptr;  ///< the torrent's entry; null when it has none
  const format::ManifestFile* stated = nullptr;   ///< the manifest's entry; null when it has none
  std::uint64_t stream_offset_bytes = 0;          ///< in the torrent's v1 stream

  /// The torrent's length, else the manifest's.
  [[nodiscard]] std::optional<std::uint64_t> length_bytes() const;
  [[nodiscard]] bool pad() const { return released != nullptr && released->pad; }
};

/// The result points into `expectations`. Error{malformed} for a torrent whose hashes contradict each other
/// or do not fit its files; Error{verification} for one that is not the manifest's torrent.
[[nodiscard]] std::vector<ExpectedFile> collect_expected_files(const Expectations& expectations);

/// The number of 16 KiB blocks in a v2 piece of the torrent.
[[nodiscard]] std::uint64_t blocks_per_piece(const format::ReleaseLayout& layout);

}  // namespace sluice::verify
