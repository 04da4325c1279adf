#include "fetch/swarm/liar_finder.h"

#include <libtorrent/error_code.hpp>
#include <libtorrent/peer_connection.hpp>
#include <libtorrent/torrent_peer.hpp>
#include <utility>

namespace sluice::fetch {
namespace {

// Peers that have left are remembered, because a piece may be judged after its senders have gone.
constexpr std::size_t kSendersMax = 10'000;

}  // namespace

/// The plugin of one connection. libtorrent calls the two functions of a piece just before it changes the
/// trust points, which leave 1 or 0 behind whatever happens, so that no peer is banned for its points.
class LiarFinder::Peer final : public lt::peer_plugin {
 public:
  Peer(std::shared_ptr<LiarFinder> finder, lt::peer_connection_handle connection,
       const lt::disk_observer* observer, BlockLedger::Sender id)
      : finder_(std::move(finder)), connection_(std::move(connection)), observer_(observer), id_(id) {}
  ~Peer() override { finder_->leave(observer_, id_); }

  void on_piece_pass(lt::piece_index_t) override { put_points(0); }
  void on_piece_failed(lt::piece_index_t) override { put_points(2); }

  /// With the points out of the way libtorrent bans only what is proven: the only sender of a wrong piece,
  /// and the sender of a block whose own hash is known to be another (v2).
  void on_disconnect(const lt::error_code& reason) override {
    if (reason == lt::errors::too_many_corrupt_pieces) finder_->blame(id_);
  }

 private:
  /// Without vptr checks: libtorrent does not export the type information of its connections.
  __attribute__((no_sanitize("vptr"))) void put_points(int points) {
    const auto connection = connection_.native_handle();
    lt::torrent_peer* peer = connection ? connection->peer_info_struct() : nullptr;
    if (peer == nullptr) return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
    peer->trust_points = points;
#pragma GCC diagnostic pop
  }

  std::shared_ptr<LiarFinder> finder_;
  lt::peer_connection_handle connection_;
  const lt::disk_observer* observer_;
  BlockLedger::Sender id_;
};

void LiarFinder::record(const lt::disk_observer* from, std::uint64_t piece, std::uint64_t block,
                        std::uint64_t block_count) {
  const auto found = connected_.find(from);
  ledger_.record(piece, block, block_count,
                 found == connected_.end() ? BlockLedger::kUnknown : found->second);
}

__attribute__((no_sanitize("vptr"))) std::shared_ptr<lt::peer_plugin> LiarFinder::new_connection(
    const lt::peer_connection_handle& connection) {
  if (connection.type() != lt::connection_type::bittorrent) return nullptr;
  // libtorrent's disk interface knows a connection as a disk_observer.
  const lt::disk_observer* observer = connection.native_handle().get();
  const BlockLedger::Sender id = ++last_sender_;
  connected_[observer] = id;
  senders_.emplace(id, Sender{connection, connection.remote(), direction_of(connection)});
  if (senders_.size() > kSendersMax) senders_.erase(senders_.begin());
  return std::make_shared<Peer>(shared_from_this(), connection, observer, id);
}

void LiarFinder::on_piece_pass(lt::piece_index_t piece) {
  const auto judgement = ledger_.pass(static_cast<std::uint64_t>(static_cast<int>(piece)));
  for (const BlockLedger::Sender id : judgement.liars) blame(id);
  for (const BlockLedger::Sender id : judgement.honest)
    if (const auto found = senders_.find(id); found != senders_.end())
      gate_->record_proven(found->second.endpoint);
}

void LiarFinder::on_piece_failed(lt::piece_index_t piece) {
  if (const auto liar = ledger_.fail(static_cast<std::uint64_t>(static_cast<int>(piece)))) blame(*liar);
}

// Disconnections wait until here: libtorrent goes through its peers while it reports a piece.
void LiarFinder::tick() {
  for (lt::peer_connection_handle& connection : std::exchange(to_disconnect_, {}))
    if (connection.native_handle() != nullptr)
      connection.disconnect(lt::errors::peer_banned, lt::operation_t::bittorrent,
                            lt::peer_connection_interface::failure);
}

void LiarFinder::blame(BlockLedger::Sender id) {
  const auto found = senders_.find(id);
  if (found == senders_.end()) return;
  gate_->record_lie(found->second.endpoint, found->second.direction);
  to_disconnect_.push_back(found->second.connection);
}

void LiarFinder::leave(const lt::disk_observer* connection, BlockLedger::Sender id) {
  // Another connection may have got the same place in memory meanwhile.
  const auto found = connected_.find(connection);
  if (found != connected_.end() && found->second == id) connected_.erase(found);
}

}  // namespace sluice::fetch
