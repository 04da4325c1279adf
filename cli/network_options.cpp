#include "cli/network_options.h"

#include "cli/environment.h"

namespace sluice::cli {
namespace {

constexpr double kSecondsMax = 1e9;

}  // namespace

void declare_network(Options& options, NetworkOptions& values) {
  auto& app = options.app();
  options.add_list("--peer", values.peers, "HOST:PORT of a peer to ask");
  options.add_list("--tracker", values.trackers, "Tracker URL to ask beside those of the source");
  options.add_list("--mirror", values.mirrors, "http(s) URL below which the release's files lie");
  options.add_bytes("--limit-down", values.limit_down_bytes_per_s, "Receive at most so much a second");
  options.add_bytes("--limit-up", values.limit_up_bytes_per_s, "Send at most so much a second");
  app.add_flag("--no-dht", values.no_dht, "Do not ask the distributed hash table");
  app.add_flag("--no-pex", values.no_pex, "Do not exchange peers with peers");
  app.add_flag("--no-lsd", values.no_lsd, "Do not look for peers in the local network");
  app.add_flag("--allow-private", values.allow_private,
               "Peers and trackers from the source may be at private addresses");
  options.add_port(values.port);
  options.add_number("--timeout", values.timeout_s, 0, kSecondsMax,
                     "Give up when nothing has arrived for so many seconds");
}

void apply(const NetworkOptions& values, fetch::FetchRequest& request) {
  request.peers = values.peers;
  request.trackers = values.trackers;
  request.mirrors = values.mirrors;
  request.dht = !values.no_dht;
  request.pex = !values.no_pex;
  request.lsd = !values.no_lsd;
  request.allow_private = values.allow_private;
  request.port = values.port;
  request.timeout_s = values.timeout_s;
  request.limit_down_bytes_per_s = values.limit_down_bytes_per_s;
  request.limit_up_bytes_per_s = values.limit_up_bytes_per_s;
  request.cache_folder = cache_folder();
}

}  // namespace sluice::cli
