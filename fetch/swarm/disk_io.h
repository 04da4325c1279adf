#pragma once
// PieceStore as libtorrent's disk back end. libtorrent 2.0's own back ends do not fit: the default maps
// files, which cannot be bounded and is unsafe on ZFS and Btrfs (fixed in 2.0.14), and posix_disk_io works in
// the network thread and reads every piece back. This one remains with later versions, because it also hashes
// from memory and journals.

#include <cstdint>
#include <functional>
#include <libtorrent/disk_observer.hpp>
#include <libtorrent/session_params.hpp>

#include "fetch/disk/piece_store.h"

namespace sluice::fetch {

/// Called by libtorrent's thread for each block that is written. `from` is the connection of the peer that
/// sent it; null for a mirror's.
using OnBlock = std::function<void(const lt::disk_observer* from, std::uint64_t piece, std::uint64_t block)>;

/// For a session with one torrent. The store must outlive the session.
[[nodiscard]] lt::disk_io_constructor_type make_disk_io(PieceStore& store, OnBlock on_block = {});

}  // namespace sluice::fetch
