#pragma once
// The DHT's nodes, kept from one run to the next: with them a fetch finds its peers without asking the
// well-known bootstrap nodes. Only a cache: what is damaged counts as not there.

#include <chrono>
#include <filesystem>
#include <functional>
#include <libtorrent/kademlia/dht_state.hpp>
#include <libtorrent/session_handle.hpp>
#include <string>

namespace sluice::fetch {

constexpr const char* kDhtStateName = "dht.state";  ///< in the cache folder
constexpr std::chrono::minutes kDhtSavePause{5};

using Warn = std::function<void(const std::string& message)>;

/// Nothing when `file` is empty, not there or damaged; the last is told.
[[nodiscard]] lt::dht::dht_state load_dht_state(const std::filesystem::path& file, const Warn& warn);

/// Written aside and renamed, made durable or not: it is a cache. A session that knows no node leaves the
/// file alone. Nothing when `file` is empty.
void save_dht_state(const lt::session_handle& session, const std::filesystem::path& file, const Warn& warn);

}  // namespace sluice::fetch
