// Resolves the names of peers and trackers, so that one that leads to a private address is left out with a
// message, and hands the others to libtorrent.
//
// A detached thread works in rounds of 3 s: names that could not be resolved are tried again every seventh
// round, and peers that the user named are offered to libtorrent in every round. The thread ends when all is
// done, or by the exception that torrent_handle throws once the torrent is gone.

#include "fetch/swarm/add_endpoints.h"

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

// Mirrors and web seeds are not here: libcurl resolves and checks their names (fetch/net/http_client.h).
enum class EndpointKind : std::uint8_t { peer, tracker };

struct Pending {
  EndpointKind kind;
  Endpoint endpoint;
};

// The numeric text of an address serves for IPv4 and IPv6 alike.
std::vector<lt::address> resolve_host(const std::string& host) {
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

class EndpointResolver {
 public:
  EndpointResolver(const WorkerJob& job, std::shared_ptr<IpFilter> ip_filter, std::shared_ptr<PeerGate> gate,
                   lt::torrent_handle torrent, WorkerPipe& pipe)
      : allow_private_(job.allow_private),
        ip_filter_(std::move(ip_filter)),
        gate_(std::move(gate)),
        torrent_(std::move(torrent)),
        pipe_(pipe) {
    for (const Endpoint& peer : job.peers) pending_.push_back({EndpointKind::peer, peer});
    for (const Endpoint& tracker : job.trackers) pending_.push_back({EndpointKind::tracker, tracker});
  }

  void run() {
    constexpr int kRoundsBetweenAttempts = 7;
    for (int round = 0;; ++round) {
      if (round % kRoundsBetweenAttempts == 0) {
        std::erase_if(pending_, [this](const Pending& pending) { return resolve(pending); });
        reported_ = true;
      }
      if (pending_.empty() && named_.empty()) return;
      std::this_thread::sleep_for(std::chrono::seconds(3));
      connect_named();
    }
  }

 private:
  /// Returns false when the name could not be resolved and should be tried again.
  bool resolve(const Pending& pending) {
    const std::string& address = pending.endpoint.address;
    const HostPort host = host_of(pending);
    const auto addresses = resolve_host(host.host);
    if (addresses.empty()) {
      if (!reported_) report(pending, "the name '" + host.host + "' cannot be looked up");
      return false;
    }
    // One private address among several is enough to refuse: a hostile name server could return it every
    // second time.
    for (const lt::address& found : addresses) {
      if (pending.endpoint.trusted || allow_private_ || !is_private_host(found.to_string())) continue;
      report(pending, "is left out: it leads to the private address " + found.to_string());
      return true;
    }
    if (pending.endpoint.trusted) ip_filter_->allow(addresses);  // before libtorrent connects
    switch (pending.kind) {
      case EndpointKind::peer:
        for (const lt::address& found : addresses) {
          if (pending.endpoint.trusted) {
            gate_->name({found, host.port});
            named_.emplace_back(found, host.port);
          }
          torrent_.connect_peer({found, host.port});
        }
        break;
      // libtorrent resolves the tracker's name again, and its IP filter checks that address.
      case EndpointKind::tracker: torrent_.add_tracker(lt::announce_entry(address)); break;
    }
    return true;
  }

  /// A peer that the user named may start late or come back, but libtorrent pauses longer after each failed
  /// attempt and gives up at last. Naming the tracker as the source makes it forget one failure.
  void connect_named() {
    for (const lt::tcp::endpoint& peer : named_) torrent_.connect_peer(peer, lt::peer_info::tracker);
  }

  static HostPort host_of(const Pending& pending) {
    if (pending.kind == EndpointKind::peer)
      return parse_host_port(pending.endpoint.address).value_or(HostPort());
    const auto url = parse_url(pending.endpoint.address);
    return url ? url->host : HostPort();
  }

  void report(const Pending& pending, const std::string& message) {
    const std::string& address = pending.endpoint.address;
    if (pending.kind == EndpointKind::tracker) {
      pipe_.send_tracker(address, message);
    } else {
      pipe_.warn("peer " + address + ": " + message);
    }
  }

  bool allow_private_;
  std::shared_ptr<IpFilter> ip_filter_;
  std::shared_ptr<PeerGate> gate_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::vector<Pending> pending_;
  std::vector<lt::tcp::endpoint> named_;  // peers that the user named
  bool reported_ = false;                 // unresolved names have been reported once
};

}  // namespace

void add_endpoints(const WorkerJob& job, std::shared_ptr<IpFilter> ip_filter, std::shared_ptr<PeerGate> gate,
                   const lt::torrent_handle& torrent, WorkerPipe& pipe) {
  // Detached, because getaddrinfo cannot be interrupted and the end of a worker must not wait for it.
  std::thread([resolver = std::make_shared<EndpointResolver>(job, std::move(ip_filter), std::move(gate),
                                                             torrent, pipe)] {
    try {
      resolver->run();
    } catch (const boost::system::system_error&) {
      // The torrent or the session has ended meanwhile: no endpoints are needed.
    }
  }).detach();
}

}  // namespace sluice::fetch
