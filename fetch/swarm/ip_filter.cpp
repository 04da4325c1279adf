// handle() and tick() are called by the worker's main thread, allow() also by the thread that resolves names;
// the mutex guards the set that they share. A blocked address is reported only after a second, because a
// local peer is often blocked just before its announcement arrives.

#include "fetch/swarm/ip_filter.h"

#include <libtorrent/alert_types.hpp>
#include <utility>

#include "fetch/net/local_network.h"
#include "fetch/swarm/session.h"

namespace sluice::fetch {
namespace {

constexpr std::size_t kAllowedMax = 1000;  // anybody in the local network can announce addresses
constexpr std::size_t kReportedMax = 20;
/// A local peer is blocked until its announcement arrives, so a warning waits for this time.
constexpr std::chrono::seconds kAnnouncePatience{1};

}  // namespace

IpFilter::IpFilter(const WorkerJob& job, lt::session_handle session, WorkerPipe& pipe)
    : allow_private_(job.allow_private),
      local_discovery_(job.lsd),
      session_(std::move(session)),
      pipe_(pipe) {}

void IpFilter::allow(const std::vector<lt::address>& addresses) {
  if (allow_private_) return;  // the session has no filter then
  const std::lock_guard lock(mutex_);
  const std::size_t before = allowed_.size();
  for (const lt::address& address : addresses)
    if (allowed_.size() < kAllowedMax) allowed_.insert(address);
  if (allowed_.size() != before) session_.set_ip_filter(make_ip_filter({allowed_.begin(), allowed_.end()}));
}

void IpFilter::handle(const lt::alert& alert) {
  if (const auto* local = lt::alert_cast<lt::lsd_peer_alert>(&alert)) {
    allow({local->endpoint.address()});
    // libtorrent has tried this peer already, before the filter allowed it.
    local->handle.connect_peer(local->endpoint, lt::peer_info::lsd);
  } else if (const auto* blocked = lt::alert_cast<lt::peer_blocked_alert>(&alert)) {
    if (blocked->reason == lt::peer_blocked_alert::ip_filter)
      record_blocked(blocked->endpoint.address(), !blocked->handle.is_valid());
  }
}

void IpFilter::record_blocked(const lt::address& address, bool incoming) {
  // A local peer that heard our announcement connects at once, long before its own next announcement. It is
  // in our network and has completed a connection, so no stranger can act in its name.
  if (incoming && local_discovery_ && address.is_v4() && is_neighbour(address.to_v4().to_uint()))
    return allow({address});
  if (reported_.size() >= kReportedMax || blocked_.size() >= kReportedMax || reported_.contains(address))
    return;
  blocked_.try_emplace(address, Blocked{Clock::now(), incoming});
}

void IpFilter::tick() {
  const auto now = Clock::now();
  std::erase_if(blocked_, [&](const auto& entry) {
    const auto& [address, blocked] = entry;
    if (now - blocked.since < kAnnouncePatience) return false;
    warn(address, blocked.incoming);
    return true;
  });
}

void IpFilter::warn(const lt::address& address, bool incoming) {
  {
    const std::lock_guard lock(mutex_);
    if (allowed_.contains(address)) return;
  }
  if (reported_.size() >= kReportedMax || !reported_.insert(address).second) return;
  const std::string text = address.to_string();
  pipe_.warn((incoming ? "a connection from the private address " + text + " was not taken"
                       : "a peer at the private address " + text + ", told by strangers, is left out") +
             " (--allow-private permits that)" +
             (reported_.size() == kReportedMax ? "; further ones are left out without a word" : ""));
}

}  // namespace sluice::fetch
