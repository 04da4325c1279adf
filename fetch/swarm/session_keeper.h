#pragma once
// What the session of a job needs whatever the job is: its peers and trackers made known, strangers' private
// addresses kept out, trackers' failures told, the DHT's nodes kept for the next run.

#include <chrono>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_status.hpp>
#include <memory>

#include "fetch/job/worker_pipe.h"
#include "fetch/swarm/dht_state.h"
#include "fetch/swarm/peer_gate.h"

namespace sluice::fetch {

class SessionKeeper final {
 public:
  /// Introduces the job's contacts to `torrent`. `job`, `session` and `pipe` outlive the keeper; `pipe` lives
  /// until the process ends.
  SessionKeeper(const WorkerJob& job, lt::session& session, const lt::torrent_handle& torrent,
                WorkerPipe& pipe);
  ~SessionKeeper();  ///< saves the DHT's nodes
  SessionKeeper(const SessionKeeper&) = delete;
  SessionKeeper& operator=(const SessionKeeper&) = delete;

  void handle(const lt::alert& alert);
  /// Now and then, from the loop that reads the alerts.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;

  void save();

  const WorkerJob& job_;
  lt::session& session_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::shared_ptr<PeerGate> gate_;
  DhtBootstrap bootstrap_;
  Clock::time_point next_save_;
};

/// True when the failure is none: an IPv6 socket skips a tracker that has IPv4 alone, as long as not all
/// sockets do.
[[nodiscard]] bool other_socket_asks(const lt::tracker_error_alert& alert);

/// Peers that have said who they are. libtorrent counts those too that have not: this process itself, which a
/// tracker may have told it of, is one for a moment.
[[nodiscard]] int count_peers(const lt::torrent_handle& torrent);

/// What trackers and peers say of the swarm, for a status event: "complete" and "incomplete" as the trackers
/// count them, when they do.
void add_swarm(format::Json& event, const lt::torrent_status& status);

}  // namespace sluice::fetch
