#pragma once
// Keeps libtorrent 2.0 from banning honest peers for wrong pieces that others have sent.
//
// libtorrent gives a peer one point for each correct piece in which it had a part, takes two for each wrong
// one, and bans the peer at -7 (torrent::piece_failed). Two things go wrong. First, the points are stored in
// four signed bits (torrent_peer::trust_points), so the eighth correct piece makes them -8, and the peer that
// has sent most is banned at the first wrong piece in which it had any part. Second, the first blocks of a
// partial piece from an earlier run have no known sender. A peer that completes such a piece is blamed for
// them, and is banned at the fourth.
//
// This plugin counts the points itself and writes them to the field just before libtorrent reads it. The
// field is internal to libtorrent, so the plugin is compiled only for versions that have it and the fault
// (libtorrent_faults.h).

#include <libtorrent/extensions.hpp>
#include <memory>
#include <optional>
#include <set>

namespace sluice::fetch {

/// A plugin of a torrent, called by libtorrent's thread.
class PeerBanWorkaround final : public lt::torrent_plugin {
 public:
  /// `partial` has the pieces of which an earlier run left blocks on the disk.
  explicit PeerBanWorkaround(std::set<lt::piece_index_t> partial);

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;
  /// libtorrent calls this before the peers' plugins. The piece is excused only once: when it is fetched
  /// again, its senders are known.
  void on_piece_failed(lt::piece_index_t piece) override;

 private:
  std::set<lt::piece_index_t> partial_;
  /// The piece that has just failed, if it was partial in an earlier run; shared with the plugins of the
  /// peers.
  std::shared_ptr<std::optional<lt::piece_index_t>> excused_;
};

}  // namespace sluice::fetch
