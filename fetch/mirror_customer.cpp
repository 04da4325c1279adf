#include "fetch/mirror_customer.h"

#include <algorithm>
#include <utility>

namespace sluice::fetch {
namespace {

constexpr std::uint64_t kSlowBytesPerS = 4u << 20;

lt::piece_index_t to_lt(std::uint64_t piece) { return lt::piece_index_t(static_cast<int>(piece)); }

}  // namespace

MirrorCustomer::MirrorCustomer(const PieceOrder& order, const PieceMap& map, lt::torrent_handle torrent,
                               WorkerPipe& pipe, std::uint64_t memory_bytes)
    : order_(order),
      map_(map),
      torrent_(std::move(torrent)),
      pipe_(pipe),
      taken_max_(std::max<std::uint64_t>(memory_bytes / std::max<std::uint64_t>(map.piece_bytes(0), 1), 1)) {}

void MirrorCustomer::update(const std::vector<bool>& durable, std::uint64_t swarm_bytes_per_s) {
  const std::lock_guard lock(mutex_);
  durable_ = durable;
  needed_ = swarm_bytes_per_s < kSlowBytesPerS;
  std::erase_if(taken_, [this](std::uint64_t piece) { return durable_[piece]; });
}

bool MirrorCustomer::free(std::uint64_t piece) const {
  return order_.wanted(piece) && !durable_[piece] && !taken_.contains(piece);
}

PieceRun MirrorCustomer::take_pieces(std::uint64_t count_max, const std::function<bool(std::uint64_t)>& has) {
  const std::lock_guard lock(mutex_);
  if (!needed_ || taken_.size() >= taken_max_) return {};
  const auto first =
      std::ranges::find_if(order_.pieces(), [&](std::uint64_t piece) { return free(piece) && has(piece); });
  if (first == order_.pieces().end()) return {};
  PieceRun run{*first, 0};
  while (run.count < count_max && run.first + run.count < map_.piece_count() && taken_.size() < taken_max_) {
    const std::uint64_t piece = run.first + run.count;
    if (!free(piece) || !has(piece)) break;
    taken_.insert(piece);
    torrent_.piece_priority(to_lt(piece), lt::low_priority);  // peers may do something else meanwhile
    ++run.count;
  }
  return run;
}

void MirrorCustomer::deliver(std::uint64_t piece, std::vector<char> bytes) {
  torrent_.add_piece(to_lt(piece), std::move(bytes));
}

void MirrorCustomer::give_back(std::uint64_t piece) {
  const std::lock_guard lock(mutex_);
  taken_.erase(piece);
  torrent_.piece_priority(to_lt(piece), lt::default_priority);
}

}  // namespace sluice::fetch
