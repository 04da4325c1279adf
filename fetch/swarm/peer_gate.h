#pragma once
// Applies PeerAdmission to a torrent's connections: a peer that has lied, or whose network has used up its
// budget, is disconnected before anything is asked of it. libtorrent's own ban holds for an address and a
// port, so that a peer who comes back from another port would be taken in each time.

#include <libtorrent/extensions.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <libtorrent/socket.hpp>
#include <memory>
#include <mutex>
#include <string>

#include "fetch/swarm/peer_admission.h"

namespace sluice::fetch {

[[nodiscard]] PeerEndpoint to_peer_endpoint(const lt::tcp::endpoint& endpoint);
/// "192.0.2.1:6881", "[2001:db8::1]:6881"
[[nodiscard]] std::string to_text(const lt::tcp::endpoint& endpoint);

/// A plugin of a torrent. libtorrent's thread calls new_connection(); the other functions may be called by
/// any thread.
class PeerGate final : public lt::torrent_plugin {
 public:
  /// An endpoint that the user has named.
  void name(const lt::tcp::endpoint& endpoint);
  [[nodiscard]] bool is_named(const lt::tcp::endpoint& endpoint);
  /// Returns whether this is the endpoint's first lie.
  bool record_lie(const lt::tcp::endpoint& endpoint, Direction direction);
  void record_proven(const lt::tcp::endpoint& endpoint);

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;

 private:
  std::mutex mutex_;  // guards admission_
  PeerAdmission admission_;
};

[[nodiscard]] inline Direction direction_of(const lt::peer_connection_handle& connection) {
  return connection.is_outgoing() ? Direction::outgoing : Direction::incoming;
}

}  // namespace sluice::fetch
