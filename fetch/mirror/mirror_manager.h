#pragma once
// Runs a transfer's mirrors and web seeds while the swarm is slow or has no peers. Their pieces take the way
// of all pieces, through libtorrent into the disk layer.

#include <chrono>
#include <cstdint>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_status.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "fetch/job/worker_pipe.h"
#include "fetch/mirror/mirror.h"
#include "fetch/mirror/mirror_scheduler.h"

namespace sluice::fetch {

class MirrorManager final {
 public:
  /// All arguments must outlive the manager. Claimed pieces take at most `memory_bytes`.
  MirrorManager(const WorkerJob& job, const format::ReleaseLayout& layout, const PieceMap& map,
                const PieceVerifier& verifier, const PieceOrder& order, const lt::torrent_handle& torrent,
                std::uint64_t memory_bytes, WorkerPipe& pipe);

  /// Call periodically while pieces are missing. Starts the mirrors once the torrent accepts pieces.
  void update(std::vector<bool> durable, const lt::torrent_status& status);
  /// Says that libtorrent has dropped a piece, which may have come from a mirror.
  void record_lost(std::uint64_t piece) { scheduler_.record_lost(piece); }
  /// Takes the piece layers of a v2 magnet link, as a .torrent has them; most pieces cannot be verified
  /// before.
  void use_layers(std::string_view layers);
  /// Aborts the transfers in progress.
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
  const PieceVerifier& verifier_;
  lt::torrent_handle torrent_;
  WorkerPipe& pipe_;
  std::vector<MirrorSource> sources_;
  MirrorScheduler scheduler_;
  std::optional<format::ReleaseLayout> full_layout_;  // with the piece layers that arrived later
  std::optional<PieceVerifier> full_verifier_;
  std::optional<MirrorPool> pool_;  // uses the members above
  std::uint64_t ended_bytes_ = 0;   // downloaded by earlier pools
  double rate_ = 0;
  std::uint64_t measured_bytes_ = 0;
  std::uint64_t measured_swarm_bytes_ = 0;
  Clock::time_point measured_at_ = Clock::now();
};

}  // namespace sluice::fetch
