#pragma once
// Finds out who sent a wrong block. A piece that fails its hash may have blocks of several peers, and only
// the blocks of the same piece when it is right tell which of them were wrong.
//
// libtorrent's smart_ban does the same and looks the sender up by its address alone, so that it bans the
// first of the peers that share one (2.0.8).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/digest.h"

namespace sluice::fetch {

/// Not thread-safe.
class BlockLedger final {
 public:
  /// A connection; each gets a number of its own. kUnknown: a mirror, or a peer of an earlier run.
  using Sender = std::uint64_t;
  static constexpr Sender kUnknown = 0;
  /// Computes the digests of a piece's blocks as they lie on the disk. Empty when they cannot be read.
  using ReadDigests = std::function<std::vector<base::Sha256>(std::uint64_t piece)>;

  /// Failed pieces are remembered for at most this number of blocks (2.6 MB); the oldest are forgotten, and
  /// with them the blame.
  static constexpr std::size_t kBlocksMax = 65'536;

  struct Judgement {
    std::vector<Sender> liars;   ///< have sent a block that differs from the right one
    std::vector<Sender> honest;  ///< have sent a right block
  };

  explicit BlockLedger(ReadDigests read_digests) : read_digests_(std::move(read_digests)) {}

  /// A block has been handed to the disk layer. Blocks that nobody records have an unknown sender.
  void record(std::uint64_t piece, std::uint64_t block, std::uint64_t block_count, Sender sender);
  /// The piece is wrong. Its only sender, when all its blocks are from one that is known, is proven a liar;
  /// else the blocks are remembered, and nobody is blamed yet.
  [[nodiscard]] std::optional<Sender> fail(std::uint64_t piece);
  /// The piece is right.
  [[nodiscard]] Judgement pass(std::uint64_t piece);

 private:
  struct Attempt {
    std::vector<Sender> senders;
    std::vector<base::Sha256> digests;
  };

  void remember(std::uint64_t piece, Attempt attempt);
  void forget(std::uint64_t piece);

  ReadDigests read_digests_;
  std::map<std::uint64_t, std::vector<Sender>> current_;  // by piece
  std::map<std::uint64_t, std::vector<Attempt>> failed_;  // by piece
  std::vector<std::uint64_t> order_;                      // the pieces of failed_, the oldest first
  std::size_t blocks_ = 0;                                // in failed_
};

}  // namespace sluice::fetch
