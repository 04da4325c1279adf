#pragma once
// Gets a torrent's info dictionary from peers (BEP 9), in the place of libtorrent's own extension. With that
// a peer that claims version 2 of a v1 magnet link kills 2.0.8 by sound metadata (libtorrent #8692), and one
// liar spoils what all the others say, again and again. Here libtorrent never sees the metadata, and each
// peer is asked for all of it: what one says is put together apart from the rest and checked as a whole.

#include <atomic>
#include <cstdint>
#include <libtorrent/extensions.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/digest.h"

namespace sluice::fetch {

/// A torrent's plugin. libtorrent calls it from its own thread; the first three are for the others.
class MetadataExchange final : public lt::torrent_plugin,
                               public std::enable_shared_from_this<MetadataExchange> {
 public:
  /// Holds at most `bytes_max` of what peers send.
  MetadataExchange(const std::optional<base::Sha1>& infohash_v1,
                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max);

  /// The info dictionary in parts, once somebody has sent it.
  [[nodiscard]] std::vector<std::string> take();
  [[nodiscard]] std::vector<std::string> take_warnings();
  /// The most that one peer has sent of it.
  [[nodiscard]] std::uint64_t received_bytes() const { return received_bytes_; }

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;
  void tick() override;

 private:
  class Talk;

  [[nodiscard]] std::vector<std::shared_ptr<Talk>> talks();
  void give_turns();
  void judge(Talk& talk);

  std::optional<base::Sha1> infohash_v1_;
  std::optional<base::Sha256> infohash_v2_;
  std::uint64_t bytes_max_;
  std::vector<std::weak_ptr<Talk>> talks_;  // with peers that are connected, in the order of their coming
  std::set<lt::address> liars_;             // are not asked again
  std::atomic<std::uint64_t> received_bytes_ = 0;

  std::mutex mutex_;  // guards what follows
  std::vector<std::string> result_;
  std::vector<std::string> warnings_;
};

}  // namespace sluice::fetch
