#pragma once
// Piece layers (BEP 52) that a torrent lacks because it came by magnet link, computed from the digests in its
// journal. fetch/swarm gets them from peers.

#include <filesystem>

#include "fetch/disk/storage.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// True when the file has a piece layer that is not known.
[[nodiscard]] bool lacks_layer(const format::ReleaseLayout& layout, const format::ReleaseFile& file);

/// Makes the layers of complete files of a hybrid torrent from the digests in its journal; returns whether
/// there were any. Error{malformed} when a file that has its v1 hashes does not have its v2 root.
bool add_layers_from_journal(format::ReleaseLayout& layout, Storage& storage,
                             const std::filesystem::path& path);

}  // namespace sluice::fetch
