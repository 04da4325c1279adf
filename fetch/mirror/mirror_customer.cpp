#include "fetch/mirror/mirror_customer.h"

#include <algorithm>
#include <utility>

namespace sluice::fetch {

MirrorCustomer::MirrorCustomer(const PieceOrder& order, const PieceMap& map, TransferActions transfer,
                               const CustomerOptions& options)
    : order_(order),
      map_(map),
      transfer_(std::move(transfer)),
      options_(options),
      taken_max_(std::max<std::uint64_t>(
          options.memory_bytes / std::max<std::uint64_t>(map.piece_bytes(0), 1), 1)) {}

void MirrorCustomer::update(std::vector<bool> durable, std::set<std::uint64_t> begun, bool needed) {
  const std::lock_guard lock(mutex_);
  durable_ = std::move(durable);
  begun_ = std::move(begun);
  needed_ = needed;
  const auto& pieces = order_.pieces();
  while (first_missing_ < pieces.size() && durable_[pieces[first_missing_]]) ++first_missing_;
  // The transfer does not say which pieces it has not taken.
  const auto refused_before = Clock::now() - options_.refused_after;
  std::erase_if(taken_, [&](const auto& entry) {
    return durable_[entry.first] || (entry.second.added && entry.second.since < refused_before);
  });
}

void MirrorCustomer::note_lost(std::uint64_t piece) {
  const std::lock_guard lock(mutex_);
  taken_.erase(piece);
  first_missing_ = 0;
}

bool MirrorCustomer::is_free(std::uint64_t piece) const {
  return order_.wanted(piece) && !durable_[piece] && !taken_.contains(piece);
}

bool MirrorCustomer::is_overdue(const Taken& taken) const {
  return !taken.added && taken.mirrors == 1 && Clock::now() - taken.since > options_.overdue_after;
}

PieceRun MirrorCustomer::take_pieces(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) {
  const std::lock_guard lock(mutex_);
  if (!needed_) return {};
  const auto untouched = [&](std::uint64_t piece) {
    return is_free(piece) && !begun_.contains(piece) && has(piece);
  };
  const auto free = [&](std::uint64_t piece) { return is_free(piece) && has(piece); };
  if (taken_.size() < taken_max_) {
    const auto start = order_.pieces().begin() + static_cast<std::ptrdiff_t>(first_missing_);
    for (const std::function<bool(std::uint64_t)>& usable :
         {std::function<bool(std::uint64_t)>(untouched), std::function<bool(std::uint64_t)>(free)}) {
      const auto first = std::find_if(start, order_.pieces().end(), usable);
      if (first != order_.pieces().end()) return take_run(*first, count_max, usable);
    }
  }
  const auto late = std::ranges::find_if(
      taken_, [&](const auto& entry) { return is_overdue(entry.second) && has(entry.first); });
  if (late == taken_.end()) return {};
  return take_run(late->first, count_max, [&](std::uint64_t piece) {
    const auto taken = taken_.find(piece);
    return taken != taken_.end() && is_overdue(taken->second) && has(piece);
  });
}

PieceRun MirrorCustomer::take_run(std::uint64_t first, std::uint64_t count_max,
                                  const std::function<bool(std::uint64_t)>& usable) {
  PieceRun run{first, 0};
  while (run.count < count_max && run.first + run.count < map_.piece_count()) {
    const std::uint64_t piece = run.first + run.count;
    if (!usable(piece) || (taken_.size() >= taken_max_ && !taken_.contains(piece))) break;
    Taken& taken = taken_[piece];
    ++taken.mirrors;
    taken.since = Clock::now();
    transfer_.reserve(piece, true);
    ++run.count;
  }
  return run;
}

void MirrorCustomer::deliver(std::uint64_t piece, std::vector<char> bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (durable_[piece]) return;
    Taken& taken = taken_[piece];
    if (taken.mirrors > 0) --taken.mirrors;
    if (taken.added) return;  // another mirror was faster
    taken.added = true;
    taken.since = Clock::now();
  }
  transfer_.add(piece, std::move(bytes));
}

void MirrorCustomer::give_back(std::uint64_t piece) {
  const std::lock_guard lock(mutex_);
  const auto taken = taken_.find(piece);
  if (taken == taken_.end()) return;
  if (taken->second.mirrors > 0) --taken->second.mirrors;
  if (taken->second.mirrors > 0 || taken->second.added) return;
  taken_.erase(taken);
  transfer_.reserve(piece, false);
}

}  // namespace sluice::fetch
