#include "fetch/swarm/block_ledger.h"

#include <algorithm>
#include <set>
#include <utility>

namespace sluice::fetch {

void BlockLedger::record(std::uint64_t piece, std::uint64_t block, std::uint64_t block_count, Sender sender) {
  std::vector<Sender>& senders = current_[piece];
  senders.resize(block_count, kUnknown);
  if (block < block_count) senders[block] = sender;
}

std::optional<BlockLedger::Sender> BlockLedger::fail(std::uint64_t piece) {
  const auto found = current_.find(piece);
  if (found == current_.end()) return std::nullopt;
  std::vector<Sender> senders = std::move(found->second);
  current_.erase(found);
  const bool one = std::ranges::adjacent_find(senders, std::ranges::not_equal_to()) == senders.end();
  if (one && !senders.empty() && senders.front() != kUnknown) return senders.front();
  std::vector<base::Sha256> digests = read_digests_(piece);
  if (digests.size() == senders.size()) remember(piece, {std::move(senders), std::move(digests)});
  return std::nullopt;
}

BlockLedger::Judgement BlockLedger::pass(std::uint64_t piece) {
  std::set<Sender> liars;
  std::set<Sender> honest;
  if (const auto found = current_.find(piece); found != current_.end()) {
    honest.insert(found->second.begin(), found->second.end());
    current_.erase(found);
  }
  if (const auto found = failed_.find(piece); found != failed_.end()) {
    const std::vector<base::Sha256> right = read_digests_(piece);
    for (const Attempt& attempt : found->second)
      for (std::size_t block = 0; block < attempt.senders.size() && block < right.size(); ++block)
        (attempt.digests[block] == right[block] ? honest : liars).insert(attempt.senders[block]);
    forget(piece);
  }
  liars.erase(kUnknown);
  honest.erase(kUnknown);
  std::erase_if(honest, [&](Sender sender) { return liars.contains(sender); });
  return {{liars.begin(), liars.end()}, {honest.begin(), honest.end()}};
}

void BlockLedger::remember(std::uint64_t piece, Attempt attempt) {
  blocks_ += attempt.senders.size();
  std::vector<Attempt>& attempts = failed_[piece];
  if (attempts.empty()) order_.push_back(piece);
  attempts.push_back(std::move(attempt));
  while (blocks_ > kBlocksMax) forget(order_.front());
}

void BlockLedger::forget(std::uint64_t piece) {
  const auto found = failed_.find(piece);
  for (const Attempt& attempt : found->second) blocks_ -= attempt.senders.size();
  failed_.erase(found);
  std::erase(order_, piece);
}

}  // namespace sluice::fetch
