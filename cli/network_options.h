#pragma once
// Options for reaching peers, shared by fetch, verify and run.

#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "fetch/fetch.h"

namespace sluice::cli {

struct NetworkOptions {
  std::vector<std::string> peers;
  std::vector<std::string> trackers;
  std::vector<std::string> mirrors;
  bool no_dht = false;
  bool no_pex = false;
  bool no_lsd = false;
  bool allow_private = false;
  int port = 0;
  std::optional<double> timeout_s;  ///< 0: wait for ever
  std::uint64_t limit_down_bytes_per_s = 0;
  std::uint64_t limit_up_bytes_per_s = 0;
};

/// Declares them all on `options`.
void declare_network(Options& options, NetworkOptions& values);

/// Fills in what the user said about the network, and this program's worker command and cache folder. Without
/// --timeout it depends on the console: where nobody looks, a fetch does not wait for ever.
void apply(const NetworkOptions& values, const Console& console, fetch::FetchRequest& request);

}  // namespace sluice::cli
