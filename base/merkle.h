#pragma once
// The SHA-256 tree over 16 KiB blocks that BitTorrent v2 uses for files (BEP 52, "pieces root"). Sluice uses
// the same tree for its own digests (tensors, experts): many threads can compute it, and a leaf locates
// damage to 16 KiB.
//
// A leaf is the SHA-256 of a 16 KiB block; the last block may be shorter. Zero digests fill the row of leaves
// up to a power of two. The root of data of at most one block is its leaf.

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

/// The root over a row of nodes, which is not empty and lies `height` levels above the leaves. The row is
/// filled up on the right with roots of trees of zero leaves, to `width` nodes: a power of two, or 0 for the
/// smallest that fits.
[[nodiscard]] Sha256 merkle_root(std::span<const Sha256> nodes, unsigned height = 0, std::uint64_t width = 0);

/// The row of nodes that each cover `blocks_per_node` leaves (a power of two). BEP 52 calls it the "piece
/// layer" when a node covers a piece.
[[nodiscard]] std::vector<Sha256> merkle_layer(std::span<const Sha256> leaves, std::uint64_t blocks_per_node);

/// Computes the leaves of a stream. Takes 32 bytes of memory for each block: 1/512 of the data.
class LeafHasher {
 public:
  void update(Bytes bytes);

  /// The leaves of all bytes since construction or the last final(), none for no data; resets the hasher.
  [[nodiscard]] std::vector<Sha256> final();

 private:
  Hasher<Sha256> block_;
  std::size_t block_bytes_ = 0;  // fed into block_ so far
  std::vector<Sha256> leaves_;
};

/// The tree root of one message, which is zero for no data. The digest of a tensor is this one.
[[nodiscard]] Sha256 merkle_digest(Bytes bytes);

}  // namespace sluice::base
