#pragma once
// Finds the peers that send wrong blocks, tells the gate (fetch/swarm/peer_gate.h) and disconnects them. It
// takes the place of libtorrent's smart_ban and of its trust points, which both blame honest peers:
//
// - smart_ban looks up the sender of a wrong block by its address, and bans the first of those that share it.
// - A peer gets one point for each correct piece in which it had a part, loses two for each wrong one, and is
//   banned at -7 (torrent::penalize_peers). The points are stored in four signed bits, so the eighth correct
//   piece makes them -8. And whoever completes a partial piece of an earlier run is blamed for its blocks.
//
// libtorrent's ban of a peer that sent a wrong piece alone remains, and so does its parole: after a wrong
// piece with several senders, each of them gets whole pieces of its own.

#include <cstddef>
#include <cstdint>
#include <libtorrent/disk_observer.hpp>
#include <libtorrent/extensions.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <map>
#include <memory>
#include <vector>

#include "fetch/swarm/block_ledger.h"
#include "fetch/swarm/peer_gate.h"

namespace sluice::fetch {

/// A plugin of a torrent. All functions are called by libtorrent's thread.
class LiarFinder final : public lt::torrent_plugin, public std::enable_shared_from_this<LiarFinder> {
 public:
  LiarFinder(std::shared_ptr<PeerGate> gate, BlockLedger::ReadDigests read_digests)
      : gate_(std::move(gate)), ledger_(std::move(read_digests)) {}

  /// The disk layer has been given a block. `from` is the connection of a peer, or null.
  void record(const lt::disk_observer* from, std::uint64_t piece, std::uint64_t block,
              std::uint64_t block_count);

  std::shared_ptr<lt::peer_plugin> new_connection(const lt::peer_connection_handle& connection) override;
  void on_piece_pass(lt::piece_index_t piece) override;
  void on_piece_failed(lt::piece_index_t piece) override;
  void tick() override;

 private:
  class Peer;
  struct Sender {
    lt::peer_connection_handle connection;
    lt::tcp::endpoint endpoint;
    Direction direction;
  };

  void blame(BlockLedger::Sender id);
  void leave(const lt::disk_observer* connection, BlockLedger::Sender id);

  std::shared_ptr<PeerGate> gate_;
  BlockLedger ledger_;
  std::map<const lt::disk_observer*, BlockLedger::Sender> connected_;
  std::map<BlockLedger::Sender, Sender> senders_;  // connected ones, and the last ones of the others
  BlockLedger::Sender last_sender_ = 0;
  std::vector<lt::peer_connection_handle> to_disconnect_;
};

}  // namespace sluice::fetch
