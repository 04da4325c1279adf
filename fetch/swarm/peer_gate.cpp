#include "fetch/swarm/peer_gate.h"

#include <libtorrent/alert_types.hpp>
#include <utility>

#include "fetch/net/local_network.h"
#include "fetch/swarm/session.h"

namespace sluice::fetch {
namespace {

constexpr std::size_t kTrustedMax = 1000;
constexpr std::size_t kToldMax = 20;
/// A local peer is blocked first and let in when its announcement is seen: that is no news.
constexpr std::chrono::seconds kAnnouncePatience{1};

}  // namespace

PeerGate::PeerGate(const WorkerJob& job, lt::session_handle session, WorkerPipe& pipe)
    : allow_private_(job.allow_private),
      local_discovery_(job.lsd),
      session_(std::move(session)),
      pipe_(pipe) {}

void PeerGate::trust(const std::vector<lt::address>& addresses) {
  if (allow_private_) return;
  const std::lock_guard lock(mutex_);
  const std::size_t before = trusted_.size();
  for (const lt::address& address : addresses)
    if (trusted_.size() < kTrustedMax) trusted_.insert(address);
  if (trusted_.size() != before)
    session_.set_ip_filter(make_address_filter({trusted_.begin(), trusted_.end()}));
}

void PeerGate::handle(const lt::alert& alert) {
  if (const auto* local = lt::alert_cast<lt::lsd_peer_alert>(&alert)) {
    trust({local->endpoint.address()});
    local->handle.connect_peer(local->endpoint, lt::peer_info::lsd);
  } else if (const auto* blocked = lt::alert_cast<lt::peer_blocked_alert>(&alert)) {
    if (blocked->reason == lt::peer_blocked_alert::ip_filter)
      note_blocked(blocked->endpoint.address(), !blocked->handle.is_valid());
  }
}

void PeerGate::note_blocked(const lt::address& address, bool incoming) {
  // Who heard our own announcement comes at once, long before its next one. It stands in our network and has
  // reached us; that no stranger can do in its name.
  if (incoming && local_discovery_ && address.is_v4() && is_neighbour(address.to_v4().to_uint()))
    return trust({address});
  if (told_.size() >= kToldMax || blocked_.size() >= kToldMax || told_.contains(address)) return;
  blocked_.try_emplace(address, Blocked{Clock::now(), incoming});
}

void PeerGate::tick() {
  const auto now = Clock::now();
  std::erase_if(blocked_, [&](const auto& entry) {
    const auto& [address, blocked] = entry;
    if (now - blocked.since < kAnnouncePatience) return false;
    warn(address, blocked.incoming);
    return true;
  });
}

void PeerGate::warn(const lt::address& address, bool incoming) {
  {
    const std::lock_guard lock(mutex_);
    if (trusted_.contains(address)) return;
  }
  if (told_.size() >= kToldMax || !told_.insert(address).second) return;
  const std::string text = address.to_string();
  pipe_.warn((incoming ? "a connection from the private address " + text + " was not taken"
                       : "a peer at the private address " + text + ", told by strangers, is left out") +
             " (--allow-private permits that)" +
             (told_.size() == kToldMax ? "; further ones are left out without a word" : ""));
}

}  // namespace sluice::fetch
