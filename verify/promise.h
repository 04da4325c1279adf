#pragma once
// What is promised about each file of a release, from its torrent and its manifest together. The torrent's
// files come first and in its order, because its v1 pieces run over them as one stream; files that only the
// manifest names follow.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/verify.h"

namespace sluice::verify {

struct Promise {
  std::string path;
  const format::ReleaseFile* released = nullptr;  ///< from the torrent
  const format::ManifestFile* stated = nullptr;   ///< from the manifest
  std::uint64_t stream_offset_bytes = 0;          ///< in the torrent's v1 stream

  /// The torrent's length, else the manifest's.
  [[nodiscard]] std::optional<std::uint64_t> length_bytes() const;
  [[nodiscard]] bool pad() const { return released != nullptr && released->pad; }
};

/// The result points into `expectations`. A torrent whose hashes contradict each other, do not fit its files,
/// or that is not the manifest's torrent is an Error.
[[nodiscard]] std::vector<Promise> collect_promises(const Expectations& expectations);

/// 16 KiB blocks in a v2 piece of that torrent.
[[nodiscard]] std::uint64_t blocks_per_piece(const format::ReleaseLayout& layout);

}  // namespace sluice::verify
