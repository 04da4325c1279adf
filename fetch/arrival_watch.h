#pragma once
// Decides when a fetch has waited long enough for peers (--timeout). Only what has proven right counts as
// arrived without limit, because a peer can send rubbish for ever. Bytes that may still prove right, such as
// the blocks of a piece that is not complete, count as well, so that a slow peer may take its time for a
// large piece; but not for longer than kUnprovenFactor timeouts after the last proven bytes.

#include <algorithm>
#include <cstdint>

#include "base/stopwatch.h"

namespace sluice::fetch {

class ArrivalWatch final {
 public:
  using Time = base::Clock::time_point;
  static constexpr double kUnprovenFactor = 5;

  /// A timeout of 0 or less never expires.
  ArrivalWatch(double timeout_s, Time now) : timeout_s_(timeout_s), last_proven_(now), last_(now) {}

  /// A fresh worker counts from zero.
  void start_worker() { proven_max_ = unproven_max_ = 0; }

  /// `proven_bytes` have been verified. `unproven_bytes` are all that may still be of use, the proven ones
  /// among them: rubbish raises the number until it is found out. So only more than ever before counts.
  void record(std::uint64_t proven_bytes, std::uint64_t unproven_bytes, Time now) {
    if (proven_bytes > proven_max_) record_proven(now);
    if (unproven_bytes > unproven_max_) last_ = now;
    proven_max_ = std::max(proven_max_, proven_bytes);
    unproven_max_ = std::max(unproven_max_, unproven_bytes);
  }
  /// Something else has been achieved, for example by hashing what is on the disk.
  void record_proven(Time now) { last_ = last_proven_ = now; }

  /// Since anything of use has arrived.
  [[nodiscard]] double waiting_s(Time now) const { return base::to_seconds(now - last_); }
  [[nodiscard]] bool expired(Time now) const {
    if (timeout_s_ <= 0) return false;
    return waiting_s(now) > timeout_s_ || base::to_seconds(now - last_proven_) > kUnprovenFactor * timeout_s_;
  }

 private:
  double timeout_s_;
  std::uint64_t proven_max_ = 0;    // of the running worker
  std::uint64_t unproven_max_ = 0;  // of the running worker
  Time last_proven_;
  Time last_;
};

}  // namespace sluice::fetch
