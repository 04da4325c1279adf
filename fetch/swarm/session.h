#pragma once
// The one place that makes a libtorrent session, with settings chosen for a few huge files and for 2.0.8.

#include <cstdint>
#include <libtorrent/kademlia/dht_state.hpp>
#include <libtorrent/session.hpp>
#include <string>
#include <vector>

#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {

struct SessionOptions {
  int port = 0;                ///< 0: any free one
  std::string listen_address;  ///< empty: all, IPv4 and IPv6
  bool dht = true;
  bool lsd = true;
  bool plugins = true;                       ///< ut_metadata, ut_pex and smart_ban
  std::uint64_t limit_down_bytes_per_s = 0;  ///< 0: none
  std::uint64_t limit_up_bytes_per_s = 0;
  std::uint64_t send_bytes = 4u << 20;     ///< buffered for one peer
  std::uint64_t receive_bytes = 2u << 20;  ///< the same
  unsigned peers_max = 200;
  std::uint64_t metadata_bytes_max = kTorrentBytesMax;
  lt::disk_io_constructor_type disk_io;  ///< none for metadata only: nothing can be written
  bool allow_private = true;             ///< false: private addresses are blocked (fetch/swarm/peer_gate.h)
  lt::dht::dht_state dht_state;          ///< nodes to begin with
};

[[nodiscard]] std::unique_ptr<lt::session> make_session(const SessionOptions& options);

/// Blocks private_ranges() (fetch/net/address.h) but for `trusted`. libtorrent 2.0.8 asks the filter at the
/// moment of connecting, with the address that it connects to: peers, web seeds, udp and http trackers, each
/// redirection. So a name that is bound to another address after it was looked up leads nowhere.
[[nodiscard]] lt::ip_filter make_address_filter(const std::vector<lt::address>& trusted);

}  // namespace sluice::fetch
