#pragma once
// Piece layers (BEP 52) for a torrent that came without them, by magnet link: out of the hash trees in
// libtorrent's resume data, or of a journal. Its own torrent_file_with_hashes() hashes whole trees again on
// the network thread at each call, which takes seconds for a large release.

#include <cstdint>
#include <filesystem>
#include <libtorrent/sha1_hash.hpp>
#include <vector>

#include "base/digest.h"
#include "fetch/disk/storage.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// `nodes` are the known ones of the file's tree in breadth-first order, `mask` says which those are. Returns
/// the piece layer, or nothing while a hash of it is missing. Whoever takes it must check it against the
/// root.
[[nodiscard]] std::vector<base::Sha256> find_piece_layer(const std::vector<lt::sha256_hash>& nodes,
                                                         const std::vector<bool>& mask,
                                                         std::uint64_t length_bytes,
                                                         std::uint64_t piece_bytes);

/// True when the file has a piece layer that is not known.
[[nodiscard]] bool lacks_layer(const format::ReleaseLayout& layout, const format::ReleaseFile& file);

/// Makes the layers of complete files of a hybrid torrent from the digests in its journal; returns whether
/// there were any. Error{malformed} when a file that has its v1 hashes does not have its v2 root.
bool add_layers_from_journal(format::ReleaseLayout& layout, Storage& storage,
                             const std::filesystem::path& path);

}  // namespace sluice::fetch
