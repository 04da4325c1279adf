#pragma once
// Converts our reading of a torrent to libtorrent's, and checks that both describe the same files.

#include <libtorrent/add_torrent_params.hpp>

#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {

/// libtorrent reads the same bytes. Where it would change a file's path, the path is set to ours.
/// Error{malformed} when the readings differ in anything else. libtorrent keeps a copy of the info
/// dictionary, which can have 160 MiB, so `torrent.info` is emptied.
///
/// libtorrent 2.0 keeps a v2 file's whole hash tree in memory from its first block to its last. Where the
/// trees could exceed `tree_bytes_max`, libtorrent is given only the v1 half of a hybrid torrent;
/// PieceVerifier still verifies its pieces by both hashes.
[[nodiscard]] lt::add_torrent_params load_torrent(Torrent& torrent, std::uint64_t tree_bytes_max);

[[nodiscard]] lt::info_hash_t to_info_hashes(const std::optional<base::Sha1>& v1,
                                             const std::optional<base::Sha256>& v2);

}  // namespace sluice::fetch
