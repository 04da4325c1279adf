#pragma once
// Gets a torrent's info dictionary from peers (BEP 9), in place of libtorrent's own ut_metadata plugin, which
// has two faults. A peer that claims to support v2 of a v1 magnet link crashes libtorrent by correct metadata
// (#8692, fixed in 2.0.14). And ut_metadata mixes blocks of several peers, so that one peer with wrong blocks
// spoils those of all others (not fixed by 2.1). Here libtorrent never sees the metadata, and each peer is
// asked for all blocks, which are checked as a whole.

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

/// A plugin of a torrent, called by libtorrent's thread. The first three functions may be called by other
/// threads.
class MetadataExchange final : public lt::torrent_plugin,
                               public std::enable_shared_from_this<MetadataExchange> {
 public:
  /// Holds at most `bytes_max` received bytes.
  MetadataExchange(const std::optional<base::Sha1>& infohash_v1,
                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max);

  /// The info dictionary in blocks, once a peer has sent all of it; else nothing.
  [[nodiscard]] std::vector<std::string> take();
  [[nodiscard]] std::vector<std::string> take_warnings();
  /// The largest number of bytes that one peer has sent.
  [[nodiscard]] std::uint64_t received_bytes() const { return received_bytes_; }

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;
  void tick() override;

 private:
  class Peer;

  [[nodiscard]] std::vector<std::shared_ptr<Peer>> peers();
  void start_requests();
  void verify(Peer& peer);

  std::optional<base::Sha1> infohash_v1_;
  std::optional<base::Sha256> infohash_v2_;
  std::uint64_t bytes_max_;
  std::vector<std::weak_ptr<Peer>> peers_;  // connected, in the order of connection
  std::set<lt::address> liars_;             // have sent wrong metadata and are not asked again
  std::atomic<std::uint64_t> received_bytes_ = 0;

  std::mutex mutex_;  // guards the members below
  std::vector<std::string> result_;
  std::vector<std::string> warnings_;
};

}  // namespace sluice::fetch
