#pragma once
// A transfer's mirrors and web seeds: started once it takes pieces, used while the swarm is slow or dead.
// What they bring goes the way of all pieces, through libtorrent into the disk layer.

#include <chrono>
#include <cstdint>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_status.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "fetch/job/worker_pipe.h"
#include "fetch/mirror/mirror.h"
#include "fetch/mirror/mirror_customer.h"

namespace sluice::fetch {

class MirrorKeeper final {
 public:
  /// All of them outlive it. What is on its way to the disk takes at most `memory_bytes`.
  MirrorKeeper(const WorkerJob& job, const format::ReleaseLayout& layout, const PieceMap& map,
               const PieceJudge& judge, const PieceOrder& order, const lt::torrent_handle& torrent,
               std::uint64_t memory_bytes, WorkerPipe& pipe);

  /// Now and then, while pieces are missing.
  void update(std::vector<bool> durable, const lt::torrent_status& status);
  /// libtorrent has dropped a piece that may have come from here.
  void note_lost(std::uint64_t piece) { customer_.note_lost(piece); }
  /// The piece layers of a v2 magnet link, as the .torrent has them. Only now can most pieces be judged.
  void use_layers(std::string_view layers);
  /// Ends the transfers that are under way.
  void stop();

  [[nodiscard]] std::uint64_t downloaded_bytes() const;
  [[nodiscard]] std::uint64_t rate_bytes_per_s() const { return static_cast<std::uint64_t>(rate_); }

 private:
  using Clock = std::chrono::steady_clock;

  void start();
  std::uint64_t measure(const lt::torrent_status& status);
  [[nodiscard]] std::uint64_t left_of_limit(std::uint64_t swarm_bytes_per_s) const;

  const WorkerJob& job_;
  const format::ReleaseLayout& layout_;
  const PieceMap& map_;
  const PieceJudge& judge_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::vector<MirrorSource> sources_;
  MirrorCustomer customer_;
  std::optional<format::ReleaseLayout> full_layout_;  // with piece layers that came later
  std::optional<PieceJudge> full_judge_;
  std::optional<MirrorPool> pool_;  // uses what is above
  std::uint64_t ended_bytes_ = 0;   // of pools that have ended
  double rate_ = 0;
  std::uint64_t measured_bytes_ = 0;
  std::uint64_t measured_swarm_bytes_ = 0;
  Clock::time_point measured_at_ = Clock::now();
};

}  // namespace sluice::fetch
