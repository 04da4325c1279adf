#pragma once
// Writes the info dictionary of a published release. The result depends on the files alone, so that everybody
// who publishes the same folder gets the same info-hashes.

#include <cstdint>
#include <string>

#include "format/release_layout.h"

namespace sluice::fetch {

constexpr std::uint64_t kPublishedPieceBytesMin = 16 << 10;
constexpr std::uint64_t kPublishedPieceBytesMax = 16 << 20;  // many clients fail above

/// The piece size for a release of this size: the smallest that keeps it below 24,000 pieces (4 MiB up to
/// 100 GB, 8 MiB up to 200 GB), at most 16 MiB.
[[nodiscard]] std::uint64_t choose_piece_bytes(std::uint64_t payload_bytes);

/// Inserts BEP 47 pad files so that each file starts at a piece border, as BEP 52 requires of hybrid
/// torrents.
void add_pad_files(format::ReleaseLayout& layout);

/// The bencoded dictionary, with v2 keys when the files have roots.
[[nodiscard]] std::string to_info_text(const format::ReleaseLayout& layout);

}  // namespace sluice::fetch
