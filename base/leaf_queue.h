#pragma once
// Leaves of trees (merkle.h) that wait to be hashed: whoever has time takes a few. One who has a file to hash
// front to back, which no second thread can help with, gets it nearly for nothing beside the leaves that it
// takes (LaneHasher::update_beside).

#include <array>
#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/lane_hasher.h"

namespace sluice::base {

/// Any number of threads may be in its functions at once.
class LeafQueue final {
 public:
  /// `bytes` from the beginning of a leaf on, and one digest for each leaf. Both have to stay where they are
  /// until all leaves are done.
  void add(Bytes bytes, std::span<Sha256> leaves);

  /// Hashes a few leaves, unless none waits.
  void hash_some();
  /// Hashes leaves until none waits. Others may then still be at those that they took.
  void hash();

  /// Feeds `bytes` to `chain`, beside leaves while any wait.
  void hash_beside(LaneHasher<Sha256>& chain, Bytes bytes);

  [[nodiscard]] bool is_waiting() const;  ///< leaves are
  [[nodiscard]] bool is_done() const;     ///< no leaf waits, and nobody is at work on any

 private:
  struct Leaves {
    Bytes bytes;
    std::span<Sha256> digests;
  };

  [[nodiscard]] Leaves take();
  void end();

  mutable std::mutex mutex_;  // of what follows
  std::vector<Leaves> waiting_;
  std::size_t at_work_ = 0;
};

}  // namespace sluice::base
