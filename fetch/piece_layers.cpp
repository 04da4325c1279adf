#include "fetch/piece_layers.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"
#include "base/merkle.h"

namespace sluice::fetch {
namespace {

/// The nodes [first, first + count) of the tree; empty when one of them is not known.
std::vector<base::Sha256> find_row(const std::vector<lt::sha256_hash>& nodes, const std::vector<bool>& mask,
                                   std::uint64_t first, std::uint64_t count) {
  const auto begin = mask.begin() + static_cast<std::ptrdiff_t>(first);
  const auto end = begin + static_cast<std::ptrdiff_t>(count);
  if (std::find(begin, end, false) != end) return {};
  const auto before = static_cast<std::size_t>(std::count(mask.begin(), begin, true));
  if (before + count > nodes.size()) return {};
  std::vector<base::Sha256> row(count);
  for (std::size_t i = 0; i < row.size(); ++i)
    std::memcpy(row[i].bytes.data(), nodes[before + i].data(), base::Sha256::kBytes);
  return row;
}

}  // namespace

std::vector<base::Sha256> find_piece_layer(const std::vector<lt::sha256_hash>& nodes,
                                           const std::vector<bool>& mask, std::uint64_t length_bytes,
                                           std::uint64_t piece_bytes) {
  const std::uint64_t blocks = base::divide_up(length_bytes, base::kMerkleBlockBytes);
  const std::uint64_t leaves = std::bit_ceil(blocks);
  const std::uint64_t blocks_per_piece = piece_bytes / base::kMerkleBlockBytes;
  if (mask.size() != 2 * leaves - 1) return {};
  // A row of n nodes starts at index n - 1.
  const std::uint64_t first_piece = leaves / blocks_per_piece - 1;
  auto layer = find_row(nodes, mask, first_piece, base::divide_up(length_bytes, piece_bytes));
  if (!layer.empty()) return layer;
  const auto block_row = find_row(nodes, mask, leaves - 1, blocks);  // of files that are complete
  return block_row.empty() ? block_row : base::merkle_layer(block_row, blocks_per_piece);
}

}  // namespace sluice::fetch
