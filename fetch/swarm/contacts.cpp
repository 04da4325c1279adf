#include "fetch/swarm/contacts.h"

#include <netdb.h>

#include <boost/system/system_error.hpp>
#include <chrono>
#include <libtorrent/announce_entry.hpp>
#include <libtorrent/peer_info.hpp>
#include <libtorrent/socket.hpp>
#include <memory>
#include <thread>
#include <utility>

#include "fetch/net/address.h"

namespace sluice::fetch {
namespace {

enum class ContactKind : std::uint8_t { peer, tracker };

struct Pending {
  ContactKind kind;
  Endpoint contact;
};

std::vector<lt::address> look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  std::vector<lt::address> addresses;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(info->ai_addr, info->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0)
      continue;
    lt::error_code error;
    const lt::address address = lt::make_address(text, error);
    if (!error) addresses.push_back(address);
  }
  return addresses;
}

class Introducer {
 public:
  Introducer(const WorkerJob& job, std::shared_ptr<PeerGate> gate, lt::torrent_handle torrent,
             WorkerPipe& pipe)
      : allow_private_(job.allow_private), gate_(std::move(gate)), torrent_(std::move(torrent)), pipe_(pipe) {
    for (const Endpoint& peer : job.peers) pending_.push_back({ContactKind::peer, peer});
    for (const Endpoint& tracker : job.trackers) pending_.push_back({ContactKind::tracker, tracker});
  }

  void run() {
    constexpr int kRoundsBetweenLookUps = 7;
    for (int round = 0;; ++round) {
      if (round % kRoundsBetweenLookUps == 0) {
        std::erase_if(pending_, [this](const Pending& pending) { return introduce_one(pending); });
        told_ = true;
      }
      if (pending_.empty() && named_.empty()) return;
      std::this_thread::sleep_for(std::chrono::seconds(3));
      connect_named();
    }
  }

 private:
  /// False when the name could not be looked up and should be tried again.
  bool introduce_one(const Pending& pending) {
    const std::string& address = pending.contact.address;
    const HostPort host = host_of(pending);
    const auto addresses = look_up(host.host);
    if (addresses.empty()) {
      if (!told_) tell(pending, "the name '" + host.host + "' cannot be looked up");
      return false;
    }
    for (const lt::address& found : addresses) {
      if (pending.contact.trusted || allow_private_ || !is_private_host(found.to_string())) continue;
      tell(pending, "is left out: it leads to the private address " + found.to_string());
      return true;
    }
    if (pending.contact.trusted) gate_->trust(addresses);
    switch (pending.kind) {
      case ContactKind::peer:
        for (const lt::address& found : addresses) {
          torrent_.connect_peer({found, host.port});
          if (pending.contact.trusted) named_.emplace_back(found, host.port);
        }
        break;
      case ContactKind::tracker: torrent_.add_tracker(lt::announce_entry(address)); break;
    }
    return true;
  }

  /// A peer that the user named may come late, or come back. libtorrent pauses longer after each failure and
  /// gives up in the end; a tracker's word lets it forget one failure.
  void connect_named() {
    for (const lt::tcp::endpoint& peer : named_) torrent_.connect_peer(peer, lt::peer_info::tracker);
  }

  static HostPort host_of(const Pending& pending) {
    if (pending.kind == ContactKind::peer)
      return parse_host_port(pending.contact.address).value_or(HostPort());
    const auto url = parse_url(pending.contact.address);
    return url ? url->host : HostPort();
  }

  void tell(const Pending& pending, const std::string& message) {
    const std::string& address = pending.contact.address;
    if (pending.kind == ContactKind::tracker) {
      pipe_.send_tracker(address, message);
    } else {
      pipe_.warn("peer " + address + ": " + message);
    }
  }

  bool allow_private_;
  std::shared_ptr<PeerGate> gate_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::vector<Pending> pending_;
  std::vector<lt::tcp::endpoint> named_;  // peers of the user
  bool told_ = false;                     // names that cannot be looked up have been told once
};

}  // namespace

void introduce(const WorkerJob& job, std::shared_ptr<PeerGate> gate, const lt::torrent_handle& torrent,
               WorkerPipe& pipe) {
  // Detached: getaddrinfo cannot be interrupted, and the end of a worker must not wait for it.
  std::thread([introducer = std::make_shared<Introducer>(job, std::move(gate), torrent, pipe)] {
    try {
      introducer->run();
    } catch (const boost::system::system_error&) {
      // The torrent or the session has ended meanwhile: nobody is left to introduce.
    }
  }).detach();
}

}  // namespace sluice::fetch
