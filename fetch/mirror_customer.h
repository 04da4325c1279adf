#pragma once
// Between a transfer and its mirrors: which pieces they are to get, and when. They help when the swarm is
// slow or dead; what they bring goes the way of all pieces, through libtorrent into the disk layer.

#include <cstdint>
#include <libtorrent/torrent_handle.hpp>
#include <mutex>
#include <set>
#include <vector>

#include "fetch/mirror.h"
#include "fetch/piece_order.h"

namespace sluice::fetch {

class MirrorCustomer final : public PieceCustomer {
 public:
  /// At most `memory_bytes` are on their way to the disk at a time, or one piece.
  MirrorCustomer(const PieceOrder& order, const PieceMap& map, lt::torrent_handle torrent, WorkerPipe& pipe,
                 std::uint64_t memory_bytes);

  /// What is durable now, and how fast the swarm is. Called now and then.
  void update(const std::vector<bool>& durable, std::uint64_t swarm_bytes_per_s);

  PieceRun take_pieces(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) override;
  void deliver(std::uint64_t piece, std::vector<char> bytes) override;
  void give_back(std::uint64_t piece) override;
  void warn(const std::string& message) override { pipe_.warn(message); }

 private:
  [[nodiscard]] bool free(std::uint64_t piece) const;

  const PieceOrder& order_;
  const PieceMap& map_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::uint64_t taken_max_;
  std::mutex mutex_;  // guards what follows
  std::vector<bool> durable_;
  std::set<std::uint64_t> taken_;  // until they are durable or given back
  bool needed_ = false;
};

}  // namespace sluice::fetch
