#pragma once
// Which pieces a transfer's mirrors are to get, beside a swarm that is at work on the same release: first
// what nobody is at, then what peers have begun, and in the end also what another mirror is slow to bring.

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

/// How a customer reaches the transfer; from the mirrors' threads.
struct TransferActions {
  std::function<void(std::uint64_t piece, std::vector<char> bytes)> add;
  /// Peers need not hurry with this piece, or should again.
  std::function<void(std::uint64_t piece, bool reserved)> reserve;
  std::function<void(const std::string& message)> warn;
};

struct CustomerOptions {
  std::uint64_t memory_bytes = 64u << 20;           ///< on their way to the disk at a time, or one piece
  std::chrono::milliseconds overdue_after{10'000};  ///< then a second mirror may try a piece
  std::chrono::milliseconds refused_after{60'000};  ///< added, but not durable: it is fetched again
};

class MirrorCustomer final : public PieceCustomer {
 public:
  /// `order` and `map` outlive it.
  MirrorCustomer(const PieceOrder& order, const PieceMap& map, TransferActions transfer,
                 const CustomerOptions& options);

  /// How things stand: what is durable, which pieces peers have begun, whether mirrors are to get any. Called
  /// now and then.
  void update(std::vector<bool> durable, std::set<std::uint64_t> begun, bool needed);
  /// It has been added, and the transfer has dropped it.
  void note_lost(std::uint64_t piece);

  PieceRun take_pieces(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) override;
  void deliver(std::uint64_t piece, std::vector<char> bytes) override;
  void give_back(std::uint64_t piece) override;
  void warn(const std::string& message) override { transfer_.warn(message); }

 private:
  using Clock = std::chrono::steady_clock;

  struct Taken {
    unsigned mirrors = 0;  // that are fetching it
    bool added = false;
    Clock::time_point since;  // the last of both
  };

  [[nodiscard]] bool is_free(std::uint64_t piece) const;
  [[nodiscard]] bool is_overdue(const Taken& taken) const;
  [[nodiscard]] PieceRun take_run(std::uint64_t first, std::uint64_t count_max,
                                  const std::function<bool(std::uint64_t)>& usable);

  const PieceOrder& order_;
  const PieceMap& map_;
  const TransferActions transfer_;
  const CustomerOptions options_;
  const std::uint64_t taken_max_;

  std::mutex mutex_;  // guards what follows
  std::vector<bool> durable_;
  std::set<std::uint64_t> begun_;
  std::map<std::uint64_t, Taken> taken_;  // until durable, lost or given back
  std::size_t first_missing_ = 0;         // into the order
  bool needed_ = false;
};

}  // namespace sluice::fetch
