#pragma once
// The DHT's nodes, kept from one run to the next: with them a fetch finds its peers without asking the
// well-known bootstrap nodes. Only a cache: what is damaged counts as not there.

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

/// Where a DHT that knows nobody begins.
constexpr const char* kBootstrapNodes =
    "dht.libtorrent.org:25401,router.bittorrent.com:6881,dht.transmissionbt.com:6881";

/// Nothing when `file` is empty, not there or damaged; the last is told.
[[nodiscard]] lt::dht::dht_state load_dht_state(const std::filesystem::path& file, const Warn& warn);

/// Written aside and renamed, made durable or not: it is a cache. A session that knows no node leaves the
/// file alone. Nothing when `file` is empty.
void save_dht_state(const lt::session_handle& session, const std::filesystem::path& file, const Warn& warn);

/// Asks the well-known nodes after all when none of the kept ones has answered for a while.
class DhtBootstrap final {
 public:
  DhtBootstrap(lt::session_handle session, bool dht) : session_(std::move(session)), done_(!dht) {}
  /// Now and then.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;

  lt::session_handle session_;
  bool done_;
  Clock::time_point due_ = Clock::now() + std::chrono::seconds(20);
};

}  // namespace sluice::fetch
