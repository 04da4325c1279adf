#include "fetch/swarm/session_manager.h"

#include <algorithm>
#include <libtorrent/announce_entry.hpp>
#include <libtorrent/peer_info.hpp>
#include <vector>

#include "fetch/swarm/add_endpoints.h"
#include "fetch/swarm/dht_state.h"

namespace sluice::fetch {
namespace {

void send_tracker_problem(const lt::tracker_error_alert& alert, WorkerPipe& pipe) {
  if (other_socket_asks(alert)) return;
  std::string message = alert.error.message();
  if (const std::string said = alert.failure_reason(); !said.empty()) message += ": " + said;
  pipe.send_tracker(alert.tracker_url(), message);
}

}  // namespace

SessionManager::SessionManager(const WorkerJob& job, lt::session& session, const lt::torrent_handle& torrent,
                               std::shared_ptr<PeerGate> gate, WorkerPipe& pipe)
    : job_(job),
      session_(session),
      torrent_(torrent),
      pipe_(pipe),
      ip_filter_(std::make_shared<IpFilter>(job, session, pipe)),
      bootstrap_(session, job.dht),
      next_save_(Clock::now() + kDhtSavePause) {
  add_endpoints(job, ip_filter_, std::move(gate), torrent, pipe);
}

// Before the session ends, because its state is gone afterwards.
SessionManager::~SessionManager() { save(); }

void SessionManager::handle(const lt::alert& alert) {
  if (const auto* tracker = lt::alert_cast<lt::tracker_error_alert>(&alert))
    send_tracker_problem(*tracker, pipe_);
  else if (const auto* reply = lt::alert_cast<lt::tracker_reply_alert>(&alert))
    pipe_.send_tracker(reply->tracker_url(), "");
  else if (lt::alert_cast<lt::dht_bootstrap_alert>(&alert) != nullptr)
    torrent_.force_dht_announce();  // earlier announces reached no node
  else
    ip_filter_->handle(alert);
}

void SessionManager::tick() {
  ip_filter_->tick();
  bootstrap_.tick();
  if (Clock::now() < next_save_) return;
  next_save_ = Clock::now() + kDhtSavePause;
  save();
}

void SessionManager::save() {
  if (!job_.dht) return;
  save_dht_state(session_, job_.dht_state, [this](const std::string& message) { pipe_.warn(message); });
}

// libtorrent announces from each listening socket, IPv4 and IPv6, and reports a skipped announce like a
// failure. It is one only if every socket has skipped the tracker.
bool other_socket_asks(const lt::tracker_error_alert& alert) {
  if (alert.error != lt::errors::announce_skipped) return false;
  for (const lt::announce_entry& tracker : alert.handle.trackers()) {
    if (tracker.url != alert.tracker_url()) continue;
    return std::ranges::any_of(tracker.endpoints, [&](const lt::announce_endpoint& socket) {
      return socket.info_hashes[alert.version].last_error != lt::errors::announce_skipped;
    });
  }
  return false;
}

int count_peers(const lt::torrent_handle& torrent) {
  std::vector<lt::peer_info> peers;
  torrent.get_peer_info(peers);
  return static_cast<int>(std::ranges::count_if(peers, [](const lt::peer_info& peer) {
    return !(peer.flags & (lt::peer_info::handshake | lt::peer_info::connecting));
  }));
}

void add_swarm(format::Json& event, const lt::torrent_status& status) {
  if (status.num_complete >= 0) event.set("complete", status.num_complete);
  if (status.num_incomplete >= 0) event.set("incomplete", status.num_incomplete);
}

}  // namespace sluice::fetch
