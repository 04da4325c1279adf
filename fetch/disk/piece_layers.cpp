#include "fetch/disk/piece_layers.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/merkle.h"
#include "fetch/disk/journal.h"
#include "fetch/torrent/piece_map.h"

namespace sluice::fetch {
bool lacks_layer(const format::ReleaseLayout& layout, const format::ReleaseFile& file) {
  return file.root && file.length_bytes > layout.piece_bytes && file.piece_layer.empty();
}

bool add_layers_from_journal(format::ReleaseLayout& layout, Storage& storage,
                             const std::filesystem::path& path) {
  if (std::ranges::none_of(layout.files, [&](const auto& file) { return lacks_layer(layout, file); }))
    return false;
  // A node counts only beside a matching SHA-1: the journal says what the disk holds, and only the torrent's
  // v1 hashes say whether that is right.
  const PieceMap map(layout);
  // The last record of a piece wins, as everywhere: an older one may describe bytes that were overwritten.
  std::vector<std::optional<base::Sha256>> nodes(map.piece_count());
  const Journal journal(storage, path, layout, [&](const JournalRecord& record) {
    if (record.kind == JournalRecord::Kind::piece && record.index < nodes.size() &&
        record.digest.sha1 == layout.v1_pieces[record.index])
      nodes[record.index] = record.digest.node;
  });
  // The nodes of a layer are roots of subtrees of one piece each.
  const auto height = static_cast<unsigned>(std::countr_zero(layout.piece_bytes / base::kMerkleBlockBytes));
  bool added = false;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    format::ReleaseFile& file = layout.files[i];
    if (!lacks_layer(layout, file)) continue;
    const auto [first, last] = map.pieces_of(i);
    std::vector<base::Sha256> layer;
    for (std::uint64_t piece = first; piece < last && nodes[piece]; ++piece) layer.push_back(*nodes[piece]);
    if (layer.size() < last - first) continue;  // the file is not complete
    if (base::merkle_root(layer, height) != *file.root)
      base::throw_malformed(file.path, "is what the torrent's v1 hashes say, and not what its v2 hash says");
    file.piece_layer = std::move(layer);
    added = true;
  }
  return added;
}

}  // namespace sluice::fetch
