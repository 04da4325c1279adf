#pragma once
// Gets a torrent's info dictionary from peers (BEP 9), in place of libtorrent's own ut_metadata plugin, which
// has two faults. A peer that claims to support v2 of a v1 magnet link crashes libtorrent by correct metadata
// (#8692, fixed in 2.0.14). And ut_metadata mixes blocks of several peers, so that one peer with wrong blocks
// spoils those of all others (not fixed by 2.1). Here libtorrent never sees the metadata, and each peer is
// asked for all blocks, which are checked as a whole.
//
// This is the connection with libtorrent alone; fetch/swarm/metadata_download.h decides.

#include <libtorrent/extensions.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "fetch/swarm/metadata_download.h"
#include "fetch/swarm/peer_gate.h"

namespace sluice::fetch {

/// A plugin of a torrent, called by libtorrent's thread. The first four functions may be called by other
/// threads.
class MetadataExchange final : public lt::torrent_plugin,
                               public std::enable_shared_from_this<MetadataExchange> {
 public:
  /// Holds at most `bytes_max` received bytes. Lies are told to `gate`, which keeps liars out.
  MetadataExchange(const std::optional<base::Sha1>& infohash_v1,
                   const std::optional<base::Sha256>& infohash_v2, std::uint64_t bytes_max,
                   std::shared_ptr<PeerGate> gate);

  /// The info dictionary in blocks, once a peer has sent all of it; else nothing.
  [[nodiscard]] std::vector<std::string> take();
  [[nodiscard]] std::vector<std::string> take_warnings();
  /// What the peer that is furthest ahead has sent.
  [[nodiscard]] std::uint64_t furthest_bytes();
  /// All bytes of blocks that were missing when they came. Never decreases.
  [[nodiscard]] std::uint64_t accepted_bytes();

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;
  void tick() override;

 private:
  class Peer;

  /// Tells the state machine of an event, and does what it answers.
  template <typename Event>
  void handle(const Event& event);
  void perform(const MetadataDownload::Action& action);
  void warn_of(const lt::tcp::endpoint& liar);

  std::shared_ptr<PeerGate> gate_;
  std::map<MetadataDownload::Peer, std::weak_ptr<Peer>> peers_;  // connected; libtorrent owns them
  MetadataDownload::Peer last_peer_ = 0;

  std::mutex mutex_;  // guards the members below
  MetadataDownload download_;
  std::vector<std::string> warnings_;
};

}  // namespace sluice::fetch
