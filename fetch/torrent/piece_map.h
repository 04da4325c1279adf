#pragma once
// Where the bytes of a piece lie: pieces are cut from one stream, in which v1 and hybrid torrents hold their
// files (pad files included) end to end (BEP 3, BEP 47), and v2 torrents start each file on a piece border
// (BEP 52).

#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/release_layout.h"

namespace sluice::fetch {

/// Part of a piece that lies in one file that is on disk. What no slice covers is padding: zeros.
struct PieceSlice {
  std::size_t file_index = 0;  ///< into ReleaseLayout::files
  std::uint64_t file_offset_bytes = 0;
  std::uint64_t piece_offset_bytes = 0;
  std::uint64_t length_bytes = 0;
};

class PieceMap final {
 public:
  explicit PieceMap(const format::ReleaseLayout& layout);

  [[nodiscard]] std::uint64_t piece_count() const { return piece_count_; }
  /// Of one piece; the last one of the stream can be short.
  [[nodiscard]] std::uint64_t piece_bytes(std::uint64_t piece) const;
  /// The files under [offset, offset + length) of a piece, in order; empty files have none.
  [[nodiscard]] std::vector<PieceSlice> slices(std::uint64_t piece, std::uint64_t offset_bytes,
                                               std::uint64_t length_bytes) const;
  [[nodiscard]] std::vector<PieceSlice> slices(std::uint64_t piece) const {
    return slices(piece, 0, piece_bytes(piece));
  }
  /// Pieces [first, last) that hold bytes of a file; equal for an empty one.
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  [[nodiscard]] Range pieces_of(std::size_t file_index) const;

 private:
  struct Extent {  // of a file that is on disk and not empty, in stream order
    std::uint64_t start_bytes;
    std::uint64_t length_bytes;
    std::size_t file_index;
  };
  std::vector<Extent> extents_;
  std::vector<std::size_t> extent_of_file_;  // npos for those without
  std::uint64_t piece_bytes_;
  std::uint64_t stream_bytes_ = 0;
  std::uint64_t piece_count_ = 0;
};

}  // namespace sluice::fetch
