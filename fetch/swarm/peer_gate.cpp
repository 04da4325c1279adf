#include "fetch/swarm/peer_gate.h"

#include <algorithm>
#include <boost/system/system_error.hpp>
#include <libtorrent/error_code.hpp>

namespace sluice::fetch {
namespace {

/// Ends a connection that we have made, at the first moment at which libtorrent allows it.
class RefusedPeer final : public lt::peer_plugin {
 public:
  explicit RefusedPeer(lt::peer_connection_handle connection) : connection_(std::move(connection)) {}

  bool on_handshake(lt::span<const char> /*reserved*/) override {
    // As a failure, so that libtorrent pauses longer before each further attempt and gives up at last.
    connection_.disconnect(lt::errors::peer_banned, lt::operation_t::bittorrent,
                           lt::peer_connection_interface::failure);
    return true;
  }

 private:
  lt::peer_connection_handle connection_;
};

}  // namespace

PeerEndpoint to_peer_endpoint(const lt::tcp::endpoint& endpoint) {
  const lt::address address = endpoint.address();
  const lt::address_v6 bytes =
      address.is_v4() ? boost::asio::ip::make_address_v6(boost::asio::ip::v4_mapped, address.to_v4())
                      : address.to_v6();
  return {bytes.to_bytes(), endpoint.port()};
}

std::string to_text(const lt::tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port());
}

void PeerGate::name(const lt::tcp::endpoint& endpoint) {
  const std::lock_guard lock(mutex_);
  admission_.name(to_peer_endpoint(endpoint));
}

bool PeerGate::is_named(const lt::tcp::endpoint& endpoint) {
  const std::lock_guard lock(mutex_);
  return admission_.is_named(to_peer_endpoint(endpoint));
}

bool PeerGate::record_lie(const lt::tcp::endpoint& endpoint, Direction direction) {
  const std::lock_guard lock(mutex_);
  return admission_.record_lie(to_peer_endpoint(endpoint), direction, base::Clock::now());
}

void PeerGate::record_proven(const lt::tcp::endpoint& endpoint) {
  const std::lock_guard lock(mutex_);
  admission_.record_proven(to_peer_endpoint(endpoint));
}

std::shared_ptr<lt::peer_plugin> PeerGate::new_connection(const lt::peer_connection_handle& connection) {
  if (connection.type() != lt::connection_type::bittorrent) return nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (admission_.admits(to_peer_endpoint(connection.remote()), direction_of(connection),
                          base::Clock::now()))
      return nullptr;
  }
  if (connection.is_outgoing()) return std::make_shared<RefusedPeer>(connection);
  // torrent::attach_peer() catches this and closes the connection; torrent::connect_to_peer(), above, would
  // let it through, and the torrent would stop.
  throw boost::system::system_error(lt::errors::make_error_code(lt::errors::peer_banned));
}

}  // namespace sluice::fetch
