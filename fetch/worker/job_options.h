#pragma once
// Translates a job's options to libtorrent's, for both kinds of job.

#include <libtorrent/torrent_flags.hpp>

#include "fetch/job/memory_budget.h"
#include "fetch/job/worker_pipe.h"
#include "fetch/swarm/dht_state.h"
#include "fetch/swarm/session.h"

namespace sluice::fetch {

[[nodiscard]] inline SessionOptions session_options(const WorkerJob& job, const MemoryShares& shares,
                                                    WorkerPipe& pipe) {
  SessionOptions options;
  options.port = job.port;
  options.dht = job.dht;
  options.lsd = job.lsd;
  options.limit_down_bytes_per_s = job.limit_down_bytes_per_s;
  options.limit_up_bytes_per_s = job.limit_up_bytes_per_s;
  options.send_bytes = shares.send_bytes;
  options.receive_bytes = shares.receive_bytes;
  options.peers_max = shares.peers_max;
  options.metadata_bytes_max = torrent_limits(job.memory_bytes).bytes_max;
  options.allow_private = job.allow_private;
  if (job.dht)
    options.dht_state =
        load_dht_state(job.dht_state, [&](const std::string& message) { pipe.warn(message); });
  return options;
}

/// The torrent is neither paused nor auto-managed: libtorrent's queue is for clients with many torrents.
[[nodiscard]] inline lt::torrent_flags_t torrent_flags(const WorkerJob& job) {
  lt::torrent_flags_t flags = lt::torrent_flags::apply_ip_filter;
  if (!job.dht) flags |= lt::torrent_flags::disable_dht;
  if (!job.lsd) flags |= lt::torrent_flags::disable_lsd;
  if (!job.pex) flags |= lt::torrent_flags::disable_pex;
  return flags;
}

}  // namespace sluice::fetch
