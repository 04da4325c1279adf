#pragma once
// Gives a running torrent its peers, trackers and web seeds, once their names have been looked up and what a
// release may not name has been dropped. Looking up can take long, so a thread does it.

#include <libtorrent/torrent_handle.hpp>
#include <memory>

#include "fetch/job/worker_pipe.h"
#include "fetch/swarm/peer_gate.h"

namespace sluice::fetch {

/// Returns at once. The thread goes on by itself until all contacts are known or the torrent is gone; `pipe`
/// must live until the process ends.
void introduce(const WorkerJob& job, std::shared_ptr<PeerGate> gate, const lt::torrent_handle& torrent,
               WorkerPipe& pipe);

}  // namespace sluice::fetch
