#pragma once
// The info dictionary of a release that is published: one way to write it, so that everybody who publishes
// the same folder gets the same info-hashes.

#include <string>

#include "format/release_layout.h"

namespace sluice::fetch {

/// Puts BEP 47 pad files between the files, so that each starts at a piece, as BEP 52 asks of hybrid
/// torrents.
void add_pad_files(format::ReleaseLayout& layout);

/// Bencoded. With v2 keys when the files have roots.
[[nodiscard]] std::string to_info_text(const format::ReleaseLayout& layout);

}  // namespace sluice::fetch
