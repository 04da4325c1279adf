#pragma once
// Keeps libtorrent 2.0.8 from banning honest peers for the lies of others.
//
// It gives a peer a point for each piece that it had a part in and that was right, takes two for each that
// was wrong, and bans it at -7 (torrent::piece_failed). Two things go wrong:
// - The points lie in four signed bits (torrent_peer::trust_points), so the eighth one makes them -8: the
//   peer that has sent most is banned at the first wrong piece in which somebody else had a part, too.
// - Of a piece that was begun in an earlier run nobody knows any more who sent the first blocks. Whoever
//   completes some that turn out wrong would be banned for it.
// So the points are counted here, and put where libtorrent looks just before it does.

#include <libtorrent/extensions.hpp>
#include <memory>
#include <optional>
#include <set>

namespace sluice::fetch {

/// A torrent's plugin. libtorrent calls it from its own thread.
class PeerTrust final : public lt::torrent_plugin {
 public:
  /// `begun`: the pieces of which blocks are on the disk from before.
  explicit PeerTrust(std::set<lt::piece_index_t> begun);

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;
  /// Called before the peers' plugins are. The next time the piece comes anew, and whoever sends it answers
  /// for it.
  void on_piece_failed(lt::piece_index_t piece) override;

 private:
  std::set<lt::piece_index_t> begun_;
  /// The piece that has just turned out wrong, if it was begun in an earlier run; shared with the peers.
  std::shared_ptr<std::optional<lt::piece_index_t>> excused_;
};

}  // namespace sluice::fetch
