#include "fetch/torrent/piece_verifier.h"

#include <algorithm>
#include <bit>

#include "base/hasher.h"
#include "base/invariant.h"
#include "base/merkle.h"

namespace sluice::fetch {

PieceVerifier::PieceVerifier(const format::ReleaseLayout& layout, const PieceMap& map)
    : layout_(layout), map_(map) {}

std::uint64_t PieceVerifier::leaf_count(std::uint64_t piece) const {
  if (!uses_node()) return 0;
  const auto slices = map_.slices(piece);
  INVARIANT(slices.size() == 1);  // BEP 52: no piece holds bytes of two files
  return base::divide_up(slices.front().length_bytes, base::kMerkleBlockBytes);
}

base::Sha256 PieceVerifier::to_node(std::uint64_t piece, std::span<const base::Sha256> leaves) const {
  const auto slices = map_.slices(piece);
  const bool whole_file = layout_.files[slices.front().file_index].length_bytes <= layout_.piece_bytes;
  // A file of at most one piece has no piece layer: its node is the root of a tree as wide as the file.
  return base::merkle_root(leaves, 0, whole_file ? 0 : layout_.piece_bytes / base::kMerkleBlockBytes);
}

PieceDigest PieceVerifier::digest(std::uint64_t piece, base::Bytes bytes) const {
  PieceDigest found;
  if (uses_sha1()) found.sha1 = base::hash<base::Sha1>(bytes);
  if (uses_node()) {
    base::LeafHasher hasher;
    hasher.update(bytes.first(map_.slices(piece).front().length_bytes));
    found.node = to_node(piece, hasher.final());
  }
  return found;
}

// In a hybrid torrent both hashes must match. Otherwise its halves could describe different content, and the
// result would depend on the half that was looked at.
MatchResult PieceVerifier::verify(std::uint64_t piece, const PieceDigest& found) const {
  const MatchResult sha1 = verify_sha1(piece, found);
  if (sha1 == MatchResult::mismatch) return sha1;
  const MatchResult node = verify_node(piece, found);
  // Without its piece layer a hybrid's piece is verified by SHA-1 alone, and a v2 piece cannot be verified.
  return node == MatchResult::unknown ? sha1 : node;
}

bool PieceVerifier::is_contradiction(std::uint64_t piece, const PieceDigest& found) const {
  const MatchResult sha1 = verify_sha1(piece, found);
  const MatchResult node = verify_node(piece, found);
  if (sha1 == MatchResult::match) return node == MatchResult::mismatch;
  // SHA-1 covers the padding as well, where a peer can send wrong bytes; the node does not.
  return sha1 == MatchResult::mismatch && node == MatchResult::match &&
         map_.slices(piece).front().length_bytes == map_.piece_bytes(piece);
}

/// `unknown` for a v2 torrent.
MatchResult PieceVerifier::verify_sha1(std::uint64_t piece, const PieceDigest& found) const {
  if (!uses_sha1()) return MatchResult::unknown;
  return found.sha1 == layout_.v1_pieces.at(piece) ? MatchResult::match : MatchResult::mismatch;
}

/// `unknown` for a v1 torrent, and where the piece layer is missing.
MatchResult PieceVerifier::verify_node(std::uint64_t piece, const PieceDigest& found) const {
  if (!uses_node()) return MatchResult::unknown;
  const PieceSlice slice = map_.slices(piece).front();
  const format::ReleaseFile& file = layout_.files[slice.file_index];
  const bool whole_file = file.length_bytes <= layout_.piece_bytes;
  if (!whole_file && file.piece_layer.empty()) return MatchResult::unknown;
  const auto& expected =
      whole_file ? *file.root : file.piece_layer.at(slice.file_offset_bytes / layout_.piece_bytes);
  return found.node == expected ? MatchResult::match : MatchResult::mismatch;
}

}  // namespace sluice::fetch
