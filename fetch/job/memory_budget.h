#pragma once
// Divides --memory, which is the limit for all processes of a fetch together: the parent and one worker at a
// time. The parent holds almost nothing while a worker runs. The worker holds the release's metadata; the
// rest is shared in fixed proportions by the disk layer, mirrors, peers and BEP 52 trees, so these shrink
// when metadata are large. The kernel enforces the worker's limit (fetch/job/memory_limit.h).

#include <cstdint>

#include "fetch/torrent/torrent_file.h"
#include "format/release_layout.h"

namespace sluice::fetch {

struct MemoryShares {
  std::uint64_t store_bytes = 0;    ///< blocks on their way to the disk
  std::uint64_t mirror_bytes = 0;   ///< pieces from mirrors on their way to the disk
  std::uint64_t tree_bytes = 0;     ///< libtorrent's hash trees (fetch/swarm/load_torrent.h)
  std::uint64_t send_bytes = 0;     ///< buffered for one peer
  std::uint64_t receive_bytes = 0;  ///< received from one peer before the store can stop it
  unsigned peers_max = 0;
};

/// The shares of a worker that fetches this release. Error{usage}, with numbers, when `memory_bytes` are too
/// few.
[[nodiscard]] MemoryShares share_memory(std::uint64_t memory_bytes, const format::ReleaseLayout& layout);

/// The shares of a worker that does not know the release yet.
[[nodiscard]] MemoryShares share_memory(std::uint64_t memory_bytes);

/// The hash trees of all files of a v2 or hybrid torrent when each is whole, as libtorrent holds them: two
/// digests a block of 16 KiB, the blocks of a file rounded up to a power of two.
[[nodiscard]] std::uint64_t tree_bytes(const format::ReleaseLayout& layout);

/// The memory that a worker may allocate in addition to what it has when it starts.
[[nodiscard]] std::uint64_t worker_memory_bytes(std::uint64_t memory_bytes);

/// The largest metadata that can be read and checked within `memory_bytes`.
[[nodiscard]] TorrentLimits torrent_limits(std::uint64_t memory_bytes);

/// Error{usage}, with the memory that is enough, when the metadata of that size exceed torrent_limits() but
/// could be read with more memory.
void check_metadata_memory(std::uint64_t memory_bytes, std::string_view content, std::string_view subject);

}  // namespace sluice::fetch
