#pragma once
// Computes the digests of pieces and compares them with the torrent's. Every piece, from peers, from mirrors
// and from the disk, is verified here and nowhere else.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "fetch/torrent/piece_map.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// A v1 torrent sets `sha1`, a v2 torrent `node`, and a hybrid torrent both.
struct PieceDigest {
  std::optional<base::Sha1> sha1;    ///< BEP 3: of the piece with its padding
  std::optional<base::Sha256> node;  ///< BEP 52: root of the tree of the piece's 16 KiB blocks

  friend bool operator==(const PieceDigest&, const PieceDigest&) = default;
};

enum class MatchResult : std::uint8_t {
  match,
  mismatch,
  unknown,  ///< the torrent lacks the hash: a v2 magnet link before its piece layers have arrived
};

/// Thread-safe: it only reads. The layout and the map must outlive it.
class PieceVerifier final {
 public:
  PieceVerifier(const format::ReleaseLayout& layout, const PieceMap& map);

  [[nodiscard]] bool uses_sha1() const { return !layout_.v1_pieces.empty(); }
  [[nodiscard]] bool uses_node() const { return layout_.infohash_v2.has_value(); }

  /// The BEP 52 node of a piece from the digests of its 16 KiB blocks, leaf_count(piece) of them.
  [[nodiscard]] base::Sha256 to_node(std::uint64_t piece, std::span<const base::Sha256> leaves) const;
  /// The number of blocks that BEP 52 hashes in the piece: those of its file, without padding. 0 in a v1
  /// torrent.
  [[nodiscard]] std::uint64_t leaf_count(std::uint64_t piece) const;

  /// Hashes a whole piece in memory, padding included.
  [[nodiscard]] PieceDigest digest(std::uint64_t piece, base::Bytes bytes) const;
  [[nodiscard]] MatchResult verify(std::uint64_t piece, const PieceDigest& found) const;
  /// True when the bytes are what one half of a hybrid torrent says and not what the other says. That proves
  /// the torrent itself wrong, whoever has sent the bytes.
  [[nodiscard]] bool is_contradiction(std::uint64_t piece, const PieceDigest& found) const;

 private:
  [[nodiscard]] MatchResult verify_sha1(std::uint64_t piece, const PieceDigest& found) const;
  [[nodiscard]] MatchResult verify_node(std::uint64_t piece, const PieceDigest& found) const;

  const format::ReleaseLayout& layout_;
  const PieceMap& map_;
};

}  // namespace sluice::fetch
