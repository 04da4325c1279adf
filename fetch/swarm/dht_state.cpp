// The file has libtorrent's own format (session_params). It is read before the session starts, and saved
// every few minutes and at the end, since a worker can be killed at any time.

#include "fetch/swarm/dht_state.h"

#include <libtorrent/bdecode.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/settings_pack.hpp>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"

namespace sluice::fetch {
namespace {

constexpr std::uint64_t kFileBytesMax = 4 << 20;  // the DHT keeps some hundred nodes of a few dozen bytes

bool knows_nodes(const lt::session_params& params) {
  return !params.dht_state.nodes.empty() || !params.dht_state.nodes6.empty();
}

}  // namespace

lt::dht::dht_state load_dht_state(const std::filesystem::path& file, const Warn& warn) {
  std::error_code unreadable;
  if (file.empty() || !std::filesystem::exists(file, unreadable)) return {};
  try {
    const std::string content = base::read_text_file(file, kFileBytesMax);
    lt::error_code error;
    const lt::bdecode_node root = lt::bdecode(content, error);
    if (error || root.type() != lt::bdecode_node::dict_t || !root.dict_find_dict("dht state"))
      base::throw_malformed(file.string(), "is damaged");
    return lt::read_session_params(root, lt::session_handle::save_dht_state).dht_state;
  } catch (const base::Error& error) {
    warn(std::string(error.what()) + "; the DHT starts without what it knew");
    return {};
  }
}

void DhtBootstrap::tick() {
  if (done_ || Clock::now() < due_) return;
  done_ = true;
  // A node that has answered is in the routing table, and leads to others.
  if (knows_nodes(session_.session_state(lt::session_handle::save_dht_state))) return;
  lt::settings_pack settings;
  settings.set_str(lt::settings_pack::dht_bootstrap_nodes, kBootstrapNodes);
  session_.apply_settings(std::move(settings));
}

void save_dht_state(const lt::session_handle& session, const std::filesystem::path& file, const Warn& warn) {
  if (file.empty()) return;
  const lt::session_params params = session.session_state(lt::session_handle::save_dht_state);
  if (!knows_nodes(params)) return;  // a run without a network must not erase the nodes of earlier ones
  try {
    base::make_directories(file.parent_path());
    const std::vector<char> content =
        lt::write_session_params_buf(params, lt::session_handle::save_dht_state);
    base::write_file(file, base::as_bytes({content.data(), content.size()}));
  } catch (const base::Error& error) {
    warn(std::string(error.what()) + "; the DHT's nodes are not kept");
  }
}

}  // namespace sluice::fetch
