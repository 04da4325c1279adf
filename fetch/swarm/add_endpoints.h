#pragma once
// Resolves the names of a job's peers and trackers and adds them to a running torrent. Addresses to which a
// release may not lead are dropped with a warning. Resolving a name can take long, so a thread does it.

#include <libtorrent/torrent_handle.hpp>
#include <memory>

#include "fetch/job/worker_pipe.h"
#include "fetch/swarm/ip_filter.h"
#include "fetch/swarm/peer_gate.h"

namespace sluice::fetch {

/// Returns at once. The thread runs until all names are resolved or the torrent has ended; it keeps trying
/// peers that the user named, and names them to `gate`. `pipe` must live until the process ends.
void add_endpoints(const WorkerJob& job, std::shared_ptr<IpFilter> ip_filter, std::shared_ptr<PeerGate> gate,
                   const lt::torrent_handle& torrent, WorkerPipe& pipe);

}  // namespace sluice::fetch
