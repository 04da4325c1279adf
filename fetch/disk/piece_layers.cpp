#include "fetch/disk/piece_layers.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/merkle.h"
#include "fetch/disk/journal.h"
#include "fetch/torrent/piece_map.h"

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

bool lacks_layer(const format::ReleaseLayout& layout, const format::ReleaseFile& file) {
  return file.root && file.length_bytes > layout.piece_bytes && file.piece_layer.empty();
}

bool add_layers_from_journal(format::ReleaseLayout& layout, Storage& storage,
                             const std::filesystem::path& path) {
  if (std::ranges::none_of(layout.files, [&](const auto& file) { return lacks_layer(layout, file); }))
    return false;
  const PieceMap map(layout);
  std::vector<std::optional<base::Sha256>> nodes(map.piece_count());
  const Journal journal(storage, path, layout, [&](const JournalRecord& record) {
    if (record.kind == JournalRecord::Kind::piece && record.index < nodes.size() &&
        record.digest.sha1 == layout.v1_pieces[record.index])
      nodes[record.index] = record.digest.node;
  });
  const auto height = static_cast<unsigned>(std::countr_zero(layout.piece_bytes / base::kMerkleBlockBytes));
  bool added = false;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    format::ReleaseFile& file = layout.files[i];
    if (!lacks_layer(layout, file)) continue;
    const auto [first, last] = map.pieces_of(i);
    std::vector<base::Sha256> layer;
    for (std::uint64_t piece = first; piece < last && nodes[piece]; ++piece) layer.push_back(*nodes[piece]);
    if (layer.size() < last - first) continue;  // it is not complete
    if (base::merkle_root(layer, height) != *file.root)
      base::throw_malformed(file.path, "is what the torrent's v1 hashes say, and not what its v2 hash says");
    file.piece_layer = std::move(layer);
    added = true;
  }
  return added;
}

}  // namespace sluice::fetch
