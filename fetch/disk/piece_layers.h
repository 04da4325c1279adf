#pragma once
// Piece layers (BEP 52) that a torrent lacks because it came by magnet link, computed from the digests in its
// journal. fetch/swarm gets them from peers.

#include <filesystem>

#include "fetch/disk/storage.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// True when BEP 52 gives the file a piece layer and the layout does not have it.
[[nodiscard]] bool lacks_layer(const format::ReleaseLayout& layout, const format::ReleaseFile& file);

/// Computes the missing layers of complete files of a hybrid torrent from the digests in its journal, and
/// returns whether it added any. Error{malformed} when a file matches its v1 hashes and not its v2 root.
bool add_layers_from_journal(format::ReleaseLayout& layout, Storage& storage,
                             const std::filesystem::path& path);

}  // namespace sluice::fetch
