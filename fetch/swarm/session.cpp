// All settings of libtorrent in one place, each with its reason where that is not obvious. The same settings
// serve fetching metadata, fetching the payload and seeding; SessionOptions has the differences.

#include "fetch/swarm/session.h"

#include <algorithm>
#include <libtorrent/disabled_disk_io.hpp>
#include <libtorrent/ip_filter.hpp>
#include <libtorrent/peer_class.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/settings_pack.hpp>
#include <limits>

#include "fetch/net/address.h"
#include "fetch/swarm/dht_state.h"
#include "fetch/swarm/libtorrent_faults.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

using Settings = lt::settings_pack;

int to_setting(std::uint64_t value) {
  return static_cast<int>(std::min<std::uint64_t>(value, std::numeric_limits<int>::max()));
}

std::string listen_interfaces(const SessionOptions& options) {
  const std::string port = std::to_string(options.port);
  if (options.listen_address.empty()) return "0.0.0.0:" + port + ",[::]:" + port;
  if (options.listen_address.find(':') != std::string::npos)
    return "[" + options.listen_address + "]:" + port;
  return options.listen_address + ":" + port;
}

void set_network(Settings& settings, const SessionOptions& options) {
  settings.set_str(Settings::user_agent, "Sluice/0.1");
  settings.set_str(Settings::peer_fingerprint, lt::generate_fingerprint("SL", 0, 1));
  settings.set_str(Settings::listen_interfaces, listen_interfaces(options));
  // The user asked for this port, perhaps because a firewall lets it through; another one would fail
  // silently.
  settings.set_bool(Settings::listen_system_port_fallback, false);
  settings.set_int(Settings::max_retry_port_bind, 0);
  // libtorrent resolves these names before the DHT starts, which can take long; with kept nodes none is
  // needed.
  const bool node_known = !options.dht_state.nodes.empty() || !options.dht_state.nodes6.empty();
  settings.set_str(Settings::dht_bootstrap_nodes, node_known ? "" : kBootstrapNodes);
  settings.set_bool(Settings::enable_dht, false);
  settings.set_bool(Settings::enable_lsd, options.lsd);
  // A tool on a server must not reconfigure a router.
  settings.set_bool(Settings::enable_upnp, false);
  settings.set_bool(Settings::enable_natpmp, false);
  // libtorrent_faults.h says what is wrong with uTP. Peers are then reached by TCP alone.
  settings.set_bool(Settings::enable_incoming_utp, !kUtpUnsafe);
  settings.set_bool(Settings::enable_outgoing_utp, !kUtpUnsafe);
  // These four settings guard against what trackers of strangers could lead to: requests to local addresses,
  // certificates that nobody has signed, names that look like others, and addresses that the filter forbids.
  settings.set_bool(Settings::ssrf_mitigation, true);
  settings.set_bool(Settings::validate_https_trackers, true);
  settings.set_bool(Settings::allow_idna, false);
  settings.set_bool(Settings::apply_ip_filter_to_trackers, true);
  settings.set_bool(Settings::announce_to_all_tiers, true);  // mangled lists put good trackers last
  settings.set_bool(Settings::announce_to_all_trackers, true);
  // The end of a worker must not wait for trackers that do not answer the last announce.
  settings.set_int(Settings::stop_tracker_timeout, 1);
  settings.set_int(Settings::max_http_recv_buffer_size, 4 << 20);
  // Several peers can share an address: behind NAT, and in every test on loopback.
  settings.set_bool(Settings::allow_multiple_connections_per_ip, true);
  settings.set_bool(Settings::smooth_connects, false);
  // Some clients refuse a peer while they still hold its previous connection, which fetched the metadata.
  settings.set_int(Settings::min_reconnect_time, 2);
  settings.set_int(Settings::max_failcount, 20);
  settings.set_int(Settings::tick_interval, 100);  // new peers and rate limits are handled once per tick
  settings.set_int(Settings::download_rate_limit, to_setting(options.limit_down_bytes_per_s));
  settings.set_int(Settings::upload_rate_limit, to_setting(options.limit_up_bytes_per_s));
}

void set_sizes(Settings& settings, const SessionOptions& options) {
  settings.set_int(Settings::max_metadata_size, to_setting(options.metadata_bytes_max));
  // libtorrent's defaults are lower than what our reader accepts (a release of 1 TB has been published in 4
  // million pieces).
  settings.set_int(Settings::max_piece_count, kPiecesMax);
  settings.set_int(Settings::metadata_token_limit, kTokensMax);
  settings.set_int(Settings::alert_queue_size, 20'000);  // alerts are dropped when it is full
  settings.set_int(Settings::file_pool_size, 500);
  // Buffers and the number of peers come from the shares of --memory (fetch/job/memory_budget.h).
  settings.set_int(Settings::send_buffer_watermark, to_setting(options.send_bytes));
  settings.set_int(Settings::max_peer_recv_buffer_size, to_setting(options.receive_bytes));
  settings.set_int(Settings::connections_limit, to_setting(options.peers_max));
  settings.set_int(Settings::max_out_request_queue, 1500);
  settings.set_int(Settings::max_allowed_in_request_queue, 2000);
  settings.set_int(
      Settings::alert_mask,
      static_cast<int>(static_cast<std::uint32_t>(
          lt::alert_category::error | lt::alert_category::status | lt::alert_category::storage |
          lt::alert_category::tracker | lt::alert_category::dht | lt::alert_category::piece_progress |
          lt::alert_category::ip_block | lt::alert_category::peer)));  // peer: local discovery
}

/// Applies the rate limits to peers on local networks, too, which libtorrent exempts by default.
void limit_local_peers(lt::session& session) {
  lt::ip_filter everywhere;
  constexpr std::uint32_t kGlobalClass = 1u << static_cast<std::uint32_t>(lt::session::global_peer_class_id);
  everywhere.add_rule(lt::make_address("0.0.0.0"), lt::make_address("255.255.255.255"), kGlobalClass);
  everywhere.add_rule(lt::make_address("::"), lt::make_address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
                      kGlobalClass);
  session.set_peer_class_filter(everywhere);
}

/// A DHT that starts together with the session loses the kept nodes, because libtorrent has no socket for
/// them yet (2.0.8; not known to be fixed). So it starts afterwards.
void start_dht(lt::session& session) {
  Settings settings;
  settings.set_bool(Settings::enable_dht, true);
  session.apply_settings(std::move(settings));
}

}  // namespace

// Later rules override earlier ones, so the allowed addresses come last.
lt::ip_filter make_ip_filter(const std::vector<lt::address>& allowed) {
  lt::ip_filter filter;
  for (const AddressRange& range : private_ranges()) {
    const lt::address_v6 first(range.first);
    const lt::address_v6 last(range.last);
    filter.add_rule(first, last, lt::ip_filter::blocked);
    // libtorrent keeps IPv4 and IPv6 rules apart, and a mapped address can be connected to as either.
    if (first.is_v4_mapped())
      filter.add_rule(boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, first),
                      boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, last),
                      lt::ip_filter::blocked);
  }
  for (const lt::address& address : allowed) {
    filter.add_rule(address, address, 0);
    if (!address.is_v4()) continue;
    const lt::address mapped = boost::asio::ip::make_address_v6(boost::asio::ip::v4_mapped, address.to_v4());
    filter.add_rule(mapped, mapped, 0);
  }
  return filter;
}

std::unique_ptr<lt::session> make_session(const SessionOptions& options) {
  lt::session_params params;
  if (!options.plugins) params.extensions.clear();
  set_network(params.settings, options);
  set_sizes(params.settings, options);
  params.disk_io_constructor = options.disk_io ? options.disk_io : lt::disabled_disk_io_constructor;
  params.dht_state = options.dht_state;
  if (!options.allow_private) params.ip_filter = make_ip_filter({});
  auto session = std::make_unique<lt::session>(std::move(params));
  limit_local_peers(*session);
  if (options.dht) start_dht(*session);
  return session;
}

}  // namespace sluice::fetch
