// The queue is a stack of byte ranges: a thread takes the first leaves of the range that was added last,
// whose bytes are the most likely to be in a cache. Hashing itself runs without the lock.

#include "base/leaf_queue.h"

#include <algorithm>

#include "base/hasher.h"
#include "base/invariant.h"
#include "base/merkle.h"
#include "base/wide_sha.h"

namespace sluice::base {
namespace {

// As many as one core hashes at once, which is also enough work for one lock.
constexpr std::size_t kLeavesMax = kWideShaMessages;

/// Consecutive bytes cut into leaves.
class Messages {
 public:
  explicit Messages(Bytes bytes) {
    for (; !bytes.empty(); ++count_) {
      messages_[count_] = bytes.first(std::min(bytes.size(), kMerkleBlockBytes));
      bytes = bytes.subspan(messages_[count_].size());
    }
  }
  [[nodiscard]] std::span<const Bytes> all() const { return std::span(messages_).first(count_); }

 private:
  std::array<Bytes, kLeavesMax> messages_;
  std::size_t count_ = 0;
};

}  // namespace

void LeafQueue::add(Bytes bytes, std::span<Sha256> leaves) {
  INVARIANT(leaves.size() == divide_up(bytes.size(), kMerkleBlockBytes));
  if (leaves.empty()) return;
  const std::scoped_lock lock(mutex_);
  waiting_.push_back({bytes, leaves});
}

void LeafQueue::hash_some() {
  const Leaves leaves = take();
  if (leaves.digests.empty()) return;
  hash_each(Messages(leaves.bytes).all(), leaves.digests);
  end();
}

void LeafQueue::hash() {
  while (is_waiting()) hash_some();
}

// Each turn hashes some leaves and feeds the chain as many bytes as fit into the same time. When no leaf
// waits, the rest of the chain follows alone.
void LeafQueue::hash_interleaved(PairedHasher<Sha256>& chain, Bytes bytes) {
  while (!bytes.empty()) {
    const Leaves leaves = take();
    if (leaves.digests.empty()) break;
    bytes = bytes.subspan(chain.update_interleaved(bytes, Messages(leaves.bytes).all(), leaves.digests));
    end();
  }
  chain.update(bytes);
}

bool LeafQueue::is_waiting() const {
  const std::scoped_lock lock(mutex_);
  return !waiting_.empty();
}

bool LeafQueue::is_done() const {
  const std::scoped_lock lock(mutex_);
  return waiting_.empty() && active_threads_ == 0;
}

LeafQueue::Leaves LeafQueue::take() {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty()) return {};
  Leaves& last = waiting_.back();
  const std::size_t count = std::min(last.digests.size(), kLeavesMax);
  const Leaves taken{last.bytes.first(std::min(last.bytes.size(), count * kMerkleBlockBytes)),
                     last.digests.first(count)};
  last = {last.bytes.subspan(taken.bytes.size()), last.digests.subspan(count)};
  if (last.digests.empty()) waiting_.pop_back();
  // Counted under the same lock as the removal: is_done() must not see the leaves neither waiting nor active.
  ++active_threads_;
  return taken;
}

void LeafQueue::end() {
  const std::scoped_lock lock(mutex_);
  --active_threads_;
}

}  // namespace sluice::base
