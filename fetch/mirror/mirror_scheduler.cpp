// The state of each claimed piece: fetched by one or two mirrors, then added to libtorrent, then durable. An
// added piece that does not become durable in time was refused by libtorrent, for example because it had
// blocks of the piece from peers, and is free again. All functions take the mutex; claimed pieces are bounded
// by the memory for them.

#include "fetch/mirror/mirror_scheduler.h"

#include <algorithm>
#include <utility>

namespace sluice::fetch {

MirrorScheduler::MirrorScheduler(const PieceOrder& order, const PieceMap& map, TransferActions transfer,
                                 const SchedulerOptions& options)
    : order_(order),
      map_(map),
      transfer_(std::move(transfer)),
      options_(options),
      claims_max_(std::max<std::uint64_t>(
          options.memory_bytes / std::max<std::uint64_t>(map.piece_bytes(0), 1), 1)) {}

void MirrorScheduler::update(std::vector<bool> durable, std::set<std::uint64_t> partial, bool needed) {
  const std::lock_guard lock(mutex_);
  durable_ = std::move(durable);
  partial_ = std::move(partial);
  needed_ = needed;
  const auto& pieces = order_.pieces();
  while (first_missing_ < pieces.size() && durable_[pieces[first_missing_]]) ++first_missing_;
  // libtorrent does not report that it has refused a piece, so a claim of an added piece ends after a time.
  const auto refused_before = Clock::now() - options_.refused_after;
  std::erase_if(claims_, [&](const auto& entry) {
    return durable_[entry.first] || (entry.second.added && entry.second.since < refused_before);
  });
}

void MirrorScheduler::record_lost(std::uint64_t piece) {
  const std::lock_guard lock(mutex_);
  claims_.erase(piece);
  first_missing_ = 0;  // the piece may lie before the first missing one
}

bool MirrorScheduler::is_free(std::uint64_t piece) const {
  return order_.wanted(piece) && !durable_[piece] && !claims_.contains(piece);
}

bool MirrorScheduler::is_overdue(const Claim& claim) const {
  return !claim.added && claim.mirrors == 1 && Clock::now() - claim.since > options_.overdue_after;
}

PieceRun MirrorScheduler::claim(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) {
  const std::lock_guard lock(mutex_);
  if (!needed_) return {};
  // Pieces that peers have begun come second: a mirror would fetch the blocks that peers have sent already.
  const auto untouched = [&](std::uint64_t piece) {
    return is_free(piece) && !partial_.contains(piece) && has(piece);
  };
  const auto free = [&](std::uint64_t piece) { return is_free(piece) && has(piece); };
  if (claims_.size() < claims_max_) {
    const auto start = order_.pieces().begin() + static_cast<std::ptrdiff_t>(first_missing_);
    for (const std::function<bool(std::uint64_t)>& usable :
         {std::function<bool(std::uint64_t)>(untouched), std::function<bool(std::uint64_t)>(free)}) {
      const auto first = std::find_if(start, order_.pieces().end(), usable);
      if (first != order_.pieces().end()) return claim_run(*first, count_max, usable);
    }
  }
  // Everything is claimed. Near the end one slow mirror could delay the whole fetch, so another one may try
  // as well.
  const auto late = std::ranges::find_if(
      claims_, [&](const auto& entry) { return is_overdue(entry.second) && has(entry.first); });
  if (late == claims_.end()) return {};
  return claim_run(late->first, count_max, [&](std::uint64_t piece) {
    const auto found = claims_.find(piece);
    return found != claims_.end() && is_overdue(found->second) && has(piece);
  });
}

PieceRun MirrorScheduler::claim_run(std::uint64_t first, std::uint64_t count_max,
                                    const std::function<bool(std::uint64_t)>& usable) {
  PieceRun run{first, 0};
  while (run.count < count_max && run.first + run.count < map_.piece_count()) {
    const std::uint64_t piece = run.first + run.count;
    if (!usable(piece) || (claims_.size() >= claims_max_ && !claims_.contains(piece))) break;
    Claim& claim = claims_[piece];
    ++claim.mirrors;
    claim.since = Clock::now();
    transfer_.reserve(piece, true);
    ++run.count;
  }
  return run;
}

bool MirrorScheduler::is_missing(std::uint64_t piece) {
  const std::lock_guard lock(mutex_);
  return needed_ && is_free(piece);
}

void MirrorScheduler::complete(std::uint64_t piece, std::vector<char> bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (durable_[piece]) return;  // peers were faster
    Claim& claim = claims_[piece];
    // The claim may be gone, after record_lost() or because the piece seemed to be refused. Then this makes a
    // new one.
    if (claim.mirrors > 0) --claim.mirrors;
    if (claim.added) return;  // another mirror was faster
    claim.added = true;
    claim.since = Clock::now();
  }
  // Outside of the mutex, so that a large piece does not keep the other mirrors from claiming.
  transfer_.add(piece, std::move(bytes));
}

void MirrorScheduler::release(std::uint64_t piece) {
  const std::lock_guard lock(mutex_);
  const auto found = claims_.find(piece);
  if (found == claims_.end()) return;
  if (found->second.mirrors > 0) --found->second.mirrors;
  if (found->second.mirrors > 0 || found->second.added) return;
  claims_.erase(found);
  transfer_.reserve(piece, false);  // peers may fetch the piece again
}

}  // namespace sluice::fetch
