#pragma once
// Chooses the pieces that a transfer's mirrors fetch while a swarm works on the same release: first the
// pieces that nobody fetches, then those that peers have partly sent, and at the end also those that another
// mirror is slow to deliver.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "fetch/disk/piece_order.h"
#include "fetch/mirror/mirror.h"

namespace sluice::fetch {

/// The functions of the transfer that the scheduler calls, from the mirrors' threads.
struct TransferActions {
  std::function<void(std::uint64_t piece, std::vector<char> bytes)> add;
  /// Lowers the priority of a piece for peers, or raises it again.
  std::function<void(std::uint64_t piece, bool reserved)> reserve;
  std::function<void(const std::string& message)> warn;
};

struct SchedulerOptions {
  std::uint64_t memory_bytes = 64u << 20;  ///< bounds the claimed pieces, but at least one is allowed
  std::chrono::milliseconds overdue_after{10'000};  ///< after this time a second mirror may claim a piece
  std::chrono::milliseconds refused_after{
      60'000};  ///< a piece that is added but not durable by then is fetched again
};

class MirrorScheduler final : public PieceScheduler {
 public:
  /// `order` and `map` outlive it.
  MirrorScheduler(const PieceOrder& order, const PieceMap& map, TransferActions transfer,
                  const SchedulerOptions& options);

  /// Sets the state of the transfer: which pieces are durable, which ones peers have partly sent, and whether
  /// mirrors are needed at all. Call it periodically.
  void update(std::vector<bool> durable, std::set<std::uint64_t> partial, bool needed);
  /// Says that the transfer has dropped a piece that had been added.
  void record_lost(std::uint64_t piece);

  PieceRun claim(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) override;
  [[nodiscard]] bool is_missing(std::uint64_t piece) override;
  void complete(std::uint64_t piece, std::vector<char> bytes) override;
  void release(std::uint64_t piece) override;
  void warn(const std::string& message) override { transfer_.warn(message); }

 private:
  using Clock = std::chrono::steady_clock;

  struct Claim {
    unsigned mirrors = 0;  // how many are fetching the piece
    bool added = false;
    Clock::time_point since;  // when the last of the two changed
  };

  [[nodiscard]] bool is_free(std::uint64_t piece) const;
  [[nodiscard]] bool is_overdue(const Claim& claim) const;
  [[nodiscard]] PieceRun claim_run(std::uint64_t first, std::uint64_t count_max,
                                   const std::function<bool(std::uint64_t)>& usable);

  const PieceOrder& order_;
  const PieceMap& map_;
  const TransferActions transfer_;
  const SchedulerOptions options_;
  const std::uint64_t claims_max_;

  std::mutex mutex_;  // guards the members below
  std::vector<bool> durable_;
  std::set<std::uint64_t> partial_;
  std::map<std::uint64_t, Claim> claims_;  // until durable, lost or released
  std::size_t first_missing_ = 0;          // into the order
  bool needed_ = false;
};

}  // namespace sluice::fetch
