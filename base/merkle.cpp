// BEP 52 trees. Rows are computed bottom up; nodes that stand for missing leaves are equal on each level, so
// one pad digest per level replaces them. A tree of few leaves and a large width therefore costs little more
// than its leaves.
//
// The functions keep no state; a LeafHasher belongs to one thread at a time.

#include "base/merkle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/invariant.h"
#include "base/paired_hasher.h"

namespace sluice::base {

Sha256 merkle_parent(const Sha256& left, const Sha256& right) {
  PairedHasher<Sha256> hasher;  // unlike Hasher it allocates nothing: a tree has as many parents as leaves
  hasher.update(left.bytes);
  hasher.update(right.bytes);
  return hasher.final();
}

namespace {

static_assert(sizeof(Sha256) == Sha256::kBytes);  // two neighbours in a row are the message of their parent

/// Replaces a row of even length by the row of its parents. Hashes many parents at once: all are messages of
/// the same length.
void replace_by_parents(std::vector<Sha256>& row) {
  // In place: the parents of a group overwrite nodes at the front of the row, which have been hashed already.
  constexpr std::size_t kAtOnce = 32;
  std::array<Bytes, kAtOnce> children;
  std::array<Sha256, kAtOnce> parents;
  const Bytes bytes = std::as_bytes(std::span(row));
  for (std::size_t first = 0; first < row.size() / 2; first += kAtOnce) {
    const std::size_t count = std::min(kAtOnce, row.size() / 2 - first);
    for (std::size_t i = 0; i < count; ++i)
      children[i] = bytes.subspan((first + i) * 2 * sizeof(Sha256), 2 * sizeof(Sha256));
    hash_each(std::span(children).first(count), std::span(parents).first(count));
    std::ranges::copy(std::span(parents).first(count), row.begin() + static_cast<std::ptrdiff_t>(first));
  }
  row.resize(row.size() / 2);
}

}  // namespace

Sha256 merkle_root(std::span<const Sha256> nodes, unsigned height, std::uint64_t width) {
  INVARIANT(!nodes.empty());
  if (width == 0) width = std::bit_ceil(nodes.size());
  INVARIANT(std::has_single_bit(width) && width >= nodes.size());

  Sha256 pad;  // the root of a tree of zero leaves that stands at this row's height
  for (unsigned level = 0; level < height; ++level) pad = merkle_parent(pad, pad);

  std::vector<Sha256> row(nodes.begin(), nodes.end());
  for (; width > 1; width /= 2) {
    // At most one pad per row: pairs that consist of two pads are not computed, because their parent is the
    // next pad.
    if (row.size() % 2 != 0) row.push_back(pad);
    replace_by_parents(row);
    pad = merkle_parent(pad, pad);
  }
  return row.front();
}

std::vector<Sha256> merkle_layer(std::span<const Sha256> leaves, std::uint64_t blocks_per_node) {
  std::vector<Sha256> layer;
  layer.reserve(divide_up(leaves.size(), blocks_per_node));
  while (!leaves.empty()) {
    const auto count = std::min<std::uint64_t>(blocks_per_node, leaves.size());
    layer.push_back(merkle_root(leaves.first(count), 0, blocks_per_node));
    leaves = leaves.subspan(count);
  }
  return layer;
}

void LeafHasher::update(Bytes bytes) {
  while (!bytes.empty()) {
    const auto take = std::min(bytes.size(), kMerkleBlockBytes - block_bytes_);
    block_.update(bytes.first(take));
    block_bytes_ += take;
    bytes = bytes.subspan(take);
    if (block_bytes_ == kMerkleBlockBytes) {
      leaves_.push_back(block_.final());
      block_bytes_ = 0;
    }
  }
}

std::vector<Sha256> LeafHasher::final() {
  if (block_bytes_ > 0) leaves_.push_back(block_.final());
  block_bytes_ = 0;
  return std::exchange(leaves_, {});
}

Sha256 merkle_digest(Bytes bytes) {
  LeafHasher hasher;
  hasher.update(bytes);
  const auto leaves = hasher.final();
  return leaves.empty() ? Sha256{} : merkle_root(leaves);
}

}  // namespace sluice::base
