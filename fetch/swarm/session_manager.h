#pragma once
// The part of a worker's session that both jobs share: it adds peers and trackers, keeps strangers' private
// addresses out, reports failing trackers, and saves the DHT's nodes for the next run.

#include <chrono>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_status.hpp>
#include <memory>

#include "fetch/job/worker_pipe.h"
#include "fetch/swarm/dht_state.h"
#include "fetch/swarm/ip_filter.h"
#include "fetch/swarm/peer_gate.h"

namespace sluice::fetch {

class SessionManager final {
 public:
  /// Adds the job's endpoints to `torrent`, and names to `gate` those that the user named. `job` and
  /// `session` must outlive the manager, and `pipe` the process.
  SessionManager(const WorkerJob& job, lt::session& session, const lt::torrent_handle& torrent,
                 std::shared_ptr<PeerGate> gate, WorkerPipe& pipe);
  ~SessionManager();  ///< saves the DHT's nodes
  SessionManager(const SessionManager&) = delete;
  SessionManager& operator=(const SessionManager&) = delete;

  void handle(const lt::alert& alert);
  /// Call periodically, from the loop that reads the alerts.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;

  void save();

  const WorkerJob& job_;
  lt::session& session_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::shared_ptr<IpFilter> ip_filter_;
  DhtBootstrap bootstrap_;
  Clock::time_point next_save_;
};

/// True when the alert is not a failure: an IPv6 socket skips a tracker that has only IPv4, and another
/// socket asks it.
[[nodiscard]] bool other_socket_asks(const lt::tracker_error_alert& alert);

/// The number of peers that have completed the handshake. libtorrent also counts connections before it, for
/// example to this process itself when a tracker returns its own address.
[[nodiscard]] int count_peers(const lt::torrent_handle& torrent);

/// Adds "complete" and "incomplete", as the trackers count them, to a status event when the trackers say so.
void add_swarm(format::Json& event, const lt::torrent_status& status);

}  // namespace sluice::fetch
