#pragma once
// Keeps the DHT's nodes from one run to the next, so that a fetch finds peers without the well-known
// bootstrap nodes. The file is only a cache: a damaged one is ignored with a warning.

#include <chrono>
#include <filesystem>
#include <functional>
#include <libtorrent/kademlia/dht_state.hpp>
#include <libtorrent/session_handle.hpp>
#include <string>
#include <utility>

namespace sluice::fetch {

constexpr std::chrono::minutes kDhtSavePause{5};

using Warn = std::function<void(const std::string& message)>;

/// The nodes from which a DHT without any known node starts.
constexpr const char* kBootstrapNodes =
    "dht.libtorrent.org:25401,router.bittorrent.com:6881,dht.transmissionbt.com:6881";

/// No nodes when `file` is empty, does not exist or is damaged; the last gives a warning.
[[nodiscard]] lt::dht::dht_state load_dht_state(const std::filesystem::path& file, const Warn& warn);

/// Replaces the file, unless the session knows no node or `file` is empty.
void save_dht_state(const lt::session_handle& session, const std::filesystem::path& file, const Warn& warn);

/// Asks the well-known nodes when no kept node has answered for 20 s.
class DhtBootstrap final {
 public:
  DhtBootstrap(lt::session_handle session, bool dht) : session_(std::move(session)), done_(!dht) {}
  /// Call periodically.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;

  lt::session_handle session_;
  bool done_;
  Clock::time_point due_ = Clock::now() + std::chrono::seconds(20);
};

}  // namespace sluice::fetch
