#include "fetch/swarm/peer_ban_workaround.h"

#include "fetch/swarm/libtorrent_faults.h"

// kTrustPointsOverflow; without the fault the field need not exist, so nothing is compiled.
#if LIBTORRENT_VERSION_NUM < 20100

#include <algorithm>
#include <libtorrent/peer_connection.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <libtorrent/torrent_peer.hpp>
#include <utility>

namespace sluice::fetch {
namespace {

constexpr int kPointsForWrong = -2;
constexpr int kPointsForRight = 1;
// Within four bits, with room for the point that libtorrent adds or the two that it takes itself.
constexpr int kPointsMin = -7;
constexpr int kPointsMax = 6;

// The points of one connection. A peer that connects again has a new plugin and begins at zero.
class PeerPoints final : public lt::peer_plugin {
 public:
  PeerPoints(lt::peer_connection_handle connection,
             std::shared_ptr<const std::optional<lt::piece_index_t>> excused)
      : connection_(std::move(connection)), excused_(std::move(excused)) {}

  // libtorrent calls both functions before it reads the points and changes them itself.
  void on_piece_pass(lt::piece_index_t) override {
    put(points_);
    points_ = std::min(points_ + kPointsForRight, kPointsMax);
  }

  void on_piece_failed(lt::piece_index_t piece) override {
    if (*excused_ == piece) {
      // libtorrent is about to take two points, so it is given two more: the piece leaves the count as it
      // was.
      put(std::min(points_ - kPointsForWrong, kPointsMax));
      return;
    }
    put(points_);
    points_ = std::max(points_ + kPointsForWrong, kPointsMin);
  }

 private:
  /// Without vptr checks: libtorrent does not export the type information of its connections.
  __attribute__((no_sanitize("vptr"))) void put(int points) {
    const auto connection = connection_.native_handle();
    lt::torrent_peer* peer = connection ? connection->peer_info_struct() : nullptr;
    if (peer == nullptr) return;
    static_assert(kPointsMin >= -8 && kPointsMax <= 7);  // so that the four bits hold every value
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
    peer->trust_points = points;
#pragma GCC diagnostic pop
  }

  lt::peer_connection_handle connection_;
  std::shared_ptr<const std::optional<lt::piece_index_t>> excused_;
  int points_ = 0;
};

}  // namespace

PeerBanWorkaround::PeerBanWorkaround(std::set<lt::piece_index_t> partial)
    : partial_(std::move(partial)), excused_(std::make_shared<std::optional<lt::piece_index_t>>()) {}

std::shared_ptr<lt::peer_plugin> PeerBanWorkaround::new_connection(
    const lt::peer_connection_handle& connection) {
  return std::make_shared<PeerPoints>(connection, excused_);
}

void PeerBanWorkaround::on_piece_failed(lt::piece_index_t piece) {
  excused_->reset();
  if (partial_.erase(piece) > 0) *excused_ = piece;
}

}  // namespace sluice::fetch

#endif
