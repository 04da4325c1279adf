#pragma once
// Piece layers (BEP 52) out of the hash trees in libtorrent's resume data. Its own torrent_file_with_hashes()
// hashes whole trees again on the network thread at each call, which takes seconds for a large release.

#include <cstdint>
#include <libtorrent/sha1_hash.hpp>
#include <vector>

#include "base/digest.h"

namespace sluice::fetch {

/// `nodes` are the known ones of the file's tree in breadth-first order, `mask` says which those are. Returns
/// the piece layer, or nothing while a hash of it is missing. Whoever takes it must check it against the
/// root.
[[nodiscard]] std::vector<base::Sha256> find_piece_layer(const std::vector<lt::sha256_hash>& nodes,
                                                         const std::vector<bool>& mask,
                                                         std::uint64_t length_bytes,
                                                         std::uint64_t piece_bytes);

}  // namespace sluice::fetch
