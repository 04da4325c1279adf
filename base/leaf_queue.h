#pragma once
// Leaves of trees (merkle.h) that wait to be hashed. Any thread that is idle hashes a few of them. A thread
// that hashes a file sequentially, which no second thread can speed up, hashes leaves at the same time at
// nearly no extra cost (PairedHasher::update_interleaved).

#include <array>
#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/paired_hasher.h"

namespace sluice::base {

/// All functions may be called by several threads at once.
class LeafQueue final {
 public:
  /// `bytes` starts at the beginning of a leaf, and `leaves` has one digest for each leaf. Both must stay
  /// valid until is_done().
  void add(Bytes bytes, std::span<Sha256> leaves);

  /// Hashes a few leaves, when any wait.
  void hash_some();
  /// Hashes leaves until none waits. Other threads may still be hashing leaves that they took.
  void hash();

  /// Feeds `bytes` to `chain`, interleaved with leaves as long as any wait.
  void hash_interleaved(PairedHasher<Sha256>& chain, Bytes bytes);

  [[nodiscard]] bool is_waiting() const;  ///< some leaves wait
  [[nodiscard]] bool is_done() const;     ///< no leaf waits, and no thread is hashing any

 private:
  struct Leaves {
    Bytes bytes;
    std::span<Sha256> digests;
  };

  [[nodiscard]] Leaves take();
  void end();

  mutable std::mutex mutex_;  // protects the members below
  std::vector<Leaves> waiting_;
  std::size_t active_threads_ = 0;
};

}  // namespace sluice::base
