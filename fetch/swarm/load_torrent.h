#pragma once
// From our reading of a torrent to libtorrent's, such that both mean the same files.

#include <libtorrent/add_torrent_params.hpp>

#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {

/// libtorrent reads the same bytes; where it would give a file another path (it mends names), its path is set
/// to ours. Error{malformed} when the two readings differ in anything else. It keeps the info dictionary, up
/// to 160 MiB: ours is given up, `torrent.info` is empty then.
///
/// libtorrent 2.0.8 keeps the hash trees of a v2 torrent in memory, a file's whole tree from its first block
/// to its last. Where that could be more than `tree_bytes_max`, a hybrid torrent is a v1 one to libtorrent:
/// our own judge (fetch/torrent/piece_digest.h) proves its pieces by both hashes all the same.
[[nodiscard]] lt::add_torrent_params load_torrent(Torrent& torrent, std::uint64_t tree_bytes_max);

[[nodiscard]] lt::info_hash_t to_info_hashes(const std::optional<base::Sha1>& v1,
                                             const std::optional<base::Sha256>& v2);

}  // namespace sluice::fetch
