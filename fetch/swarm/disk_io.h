#pragma once
// PieceStore as libtorrent's disk back end. Not its own ones: the default maps memory that cannot be bounded
// and is unsafe on some file systems, and the plain one works in the network's thread and reads every piece
// back (2.0.8).

#include <libtorrent/session_params.hpp>

#include "fetch/disk/piece_store.h"

namespace sluice::fetch {

/// For sessions of one torrent, whose store this is; it must live as long as the session.
[[nodiscard]] lt::disk_io_constructor_type make_disk_io(PieceStore& store);

}  // namespace sluice::fetch
