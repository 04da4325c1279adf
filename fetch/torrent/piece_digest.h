#pragma once
// What a piece's bytes hash to, and what the torrent says they must: the one place where a piece is judged.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "fetch/torrent/piece_map.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// Which are set depends on the torrent: v1 has `sha1`, v2 `node`, a hybrid both.
struct PieceDigest {
  std::optional<base::Sha1> sha1;    ///< BEP 3: over the piece with its padding
  std::optional<base::Sha256> node;  ///< BEP 52: root over the piece's 16 KiB blocks

  friend bool operator==(const PieceDigest&, const PieceDigest&) = default;
};

enum class Verdict : std::uint8_t {
  right,
  wrong,
  unknown,  ///< a magnet link's v2 torrent, before its piece layers are known
};

/// The digests of pieces, and the judgement on them. Threads may share it.
class PieceJudge final {
 public:
  PieceJudge(const format::ReleaseLayout& layout, const PieceMap& map);

  [[nodiscard]] bool wants_sha1() const { return !layout_.v1_pieces.empty(); }
  [[nodiscard]] bool wants_node() const { return layout_.infohash_v2.has_value(); }

  /// From the digests of its 16 KiB blocks: leaves as many as the piece's file has there.
  [[nodiscard]] base::Sha256 to_node(std::uint64_t piece, std::span<const base::Sha256> leaves) const;
  /// Blocks of the piece that BEP 52 hashes: those of its file, without padding. 0 in a v1 torrent.
  [[nodiscard]] std::uint64_t leaf_count(std::uint64_t piece) const;

  /// Of a whole piece in memory, padding included.
  [[nodiscard]] PieceDigest digest(std::uint64_t piece, base::Bytes bytes) const;
  [[nodiscard]] Verdict judge(std::uint64_t piece, const PieceDigest& found) const;

 private:
  const format::ReleaseLayout& layout_;
  const PieceMap& map_;
};

}  // namespace sluice::fetch
