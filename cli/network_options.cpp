// The network options that fetch, verify and run share, and what this program adds to a fetch request: its
// worker command and its cache folder, which the library does not look for itself.

#include "cli/network_options.h"

#include "cli/environment.h"

namespace sluice::cli {
namespace {

// Nobody may look at a job of cron or CI for days, so it ends. Trackers are asked again after half a minute
// to some minutes, so that each is asked at least twice in this time.
constexpr double kUnattendedTimeout_s = 600;

}  // namespace

void declare_network(Options& options, NetworkOptions& values) {
  options.group("Network");
  options.add_list("--peer HOST:PORT", values.peers, "Peer to download from");
  options.add_list("--tracker URL", values.trackers, "Additional tracker");
  options.add_list("--mirror URL", values.mirrors,
                   "Web server (http or https, with range requests) that holds the release's files");
  options.add_size("--limit-down RATE", values.limit_down_bytes_per_s,
                   "Download limit per second, such as 10M/s (default: none)");
  options.add_size("--limit-up RATE", values.limit_up_bytes_per_s, "Upload limit per second (default: none)");
  options.add_flag("--no-dht", values.no_dht, "Do not use the distributed hash table");
  options.add_flag("--no-pex", values.no_pex, "Do not exchange peer addresses with peers");
  options.add_flag("--no-lsd", values.no_lsd, "Do not look for peers in the local network");
  options.add_flag("--allow-private", values.allow_private,
                   "Allow private addresses for peers and trackers that the source names");
  options.add_port(values.port);
  options.add_duration(
      "--timeout TIME", values.timeout_s, 1,
      "Give up (exit code 5) when nothing has arrived for TIME, such as 90s or 5m; 0 waits for "
      "ever (default: 10m; at a terminal, wait for ever)");
}

void apply(const NetworkOptions& values, const Console& console, fetch::FetchRequest& request) {
  request.peers = values.peers;
  request.trackers = values.trackers;
  request.mirrors = values.mirrors;
  // The options are negative, because flags are off by default and these three are on.
  request.dht = !values.no_dht;
  request.pex = !values.no_pex;
  request.lsd = !values.no_lsd;
  request.allow_private = values.allow_private;
  request.port = values.port;
  // A person sees that nothing arrives, and can end the wait.
  request.timeout_s = values.timeout_s.value_or(console.attended() ? 0 : kUnattendedTimeout_s);
  request.limit_down_bytes_per_s = values.limit_down_bytes_per_s;
  request.limit_up_bytes_per_s = values.limit_up_bytes_per_s;
  request.cache_folder = cache_folder();
  request.worker_command = worker_command();
}

}  // namespace sluice::cli
