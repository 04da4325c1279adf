#pragma once
// How --memory is shared. It is the ceiling of a fetch's processes together: the parent, and one worker at a
// time. The parent holds next to nothing while a worker runs. The worker holds what the release's metadata
// take; of the rest the disk layer, mirrors, peers and BEP 52 trees have fixed shares, so that they shrink
// where metadata are large. The kernel keeps the worker's ceiling (fetch/job/memory_limit.h).

#include <cstdint>

#include "fetch/torrent/torrent_file.h"
#include "format/release_layout.h"

namespace sluice::fetch {

struct MemoryShares {
  std::uint64_t store_bytes = 0;    ///< blocks on their way to the disk
  std::uint64_t mirror_bytes = 0;   ///< pieces from mirrors on theirs
  std::uint64_t tree_bytes = 0;     ///< libtorrent's hash trees (fetch/swarm/load_torrent.h)
  std::uint64_t send_bytes = 0;     ///< buffered for one peer
  std::uint64_t receive_bytes = 0;  ///< from one peer, before the store can say that it is full
  unsigned peers_max = 0;
};

/// Of a release's worker. Error{usage}, with numbers, when `memory_bytes` are not enough for it.
[[nodiscard]] MemoryShares share_memory(std::uint64_t memory_bytes, const format::ReleaseLayout& layout);

/// Of a worker that does not know the release yet.
[[nodiscard]] MemoryShares share_memory(std::uint64_t memory_bytes);

/// The hash trees of all files of a v2 or hybrid torrent when each is whole, as libtorrent holds them: two
/// digests a block of 16 KiB, the blocks of a file rounded up to a power of two.
[[nodiscard]] std::uint64_t tree_bytes(const format::ReleaseLayout& layout);

/// What a worker may get beyond what it has when it starts.
[[nodiscard]] std::uint64_t worker_memory_bytes(std::uint64_t memory_bytes);

/// Metadata that can be read and checked with so much.
[[nodiscard]] TorrentLimits torrent_limits(std::uint64_t memory_bytes);

}  // namespace sluice::fetch
