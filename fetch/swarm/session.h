#pragma once
// Makes libtorrent sessions. The settings are chosen for a few huge files and for libtorrent 2.0.8.

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
  bool plugins = true;                       ///< libtorrent's own: ut_metadata, ut_pex and smart_ban
  std::uint64_t limit_down_bytes_per_s = 0;  ///< 0: none
  std::uint64_t limit_up_bytes_per_s = 0;
  std::uint64_t send_bytes = 4u << 20;     ///< buffered for one peer
  std::uint64_t receive_bytes = 2u << 20;  ///< buffered from one peer
  unsigned peers_max = 200;
  std::uint64_t metadata_bytes_max = kTorrentBytesMax;
  lt::disk_io_constructor_type disk_io;  ///< empty for metadata: nothing can be written
  bool allow_private = true;             ///< false: private addresses are blocked (fetch/swarm/ip_filter.h)
  lt::dht::dht_state dht_state;          ///< nodes to start with
};

[[nodiscard]] std::unique_ptr<lt::session> make_session(const SessionOptions& options);

/// Blocks private_ranges() (fetch/net/address.h) except for `allowed`. libtorrent 2.0 checks the filter when
/// it connects, with the actual address: for peers, web seeds, udp and http trackers, and each redirect. So a
/// name that resolves to another address later cannot bypass it.
[[nodiscard]] lt::ip_filter make_ip_filter(const std::vector<lt::address>& allowed);

}  // namespace sluice::fetch
