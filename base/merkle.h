#pragma once
// The SHA-256 tree over 16 KiB blocks that BitTorrent v2 uses for files (BEP 52, "pieces root").
// Sluice uses the same tree wherever it makes digests of its own (tensors, experts): it can be computed by
// many threads, and a leaf locates damage to 16 KiB.
//
// Leaves are SHA-256 of each 16 KiB block, the last one of what is left. The number of leaves is filled up
// to a power of two with zero digests. Data of at most one block has its leaf as root.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/hasher.h"

namespace sluice::base {

constexpr std::size_t kMerkleBlockBytes = 16384;  // BEP 52

/// SHA-256 of two children.
[[nodiscard]] Sha256 merkle_parent(const Sha256& left, const Sha256& right);

/// Root over `nodes`, all of which stand `height` levels above the leaves; missing ones on the right are
/// roots of trees of zero leaves. `width` is the power of two that the row is filled up to, 0 for the
/// smallest that holds them. `nodes` is not empty.
[[nodiscard]] Sha256 merkle_root(std::span<const Sha256> nodes, unsigned height = 0, std::uint64_t width = 0);

/// The row of nodes that each cover `blocks_per_node` (a power of two) leaves: a file's "piece layer".
[[nodiscard]] std::vector<Sha256> merkle_layer(std::span<const Sha256> leaves, std::uint64_t blocks_per_node);

/// Collects a stream's leaves. Memory: 32 bytes a block, that is 1/512 of the data.
class LeafHasher {
 public:
  void update(Bytes bytes);

  /// The leaves of all that was fed (none for no data); the hasher is then as new.
  [[nodiscard]] std::vector<Sha256> final();

 private:
  Hasher<Sha256> block_;
  std::size_t block_bytes_ = 0;  // fed into block_ so far
  std::vector<Sha256> leaves_;
};

/// Tree digest of one message: what Sluice calls the digest of a tensor. Of no data: zero.
[[nodiscard]] Sha256 merkle_digest(Bytes bytes);

}  // namespace sluice::base
