#pragma once
// Maps pieces to files. Pieces are cut from one stream of bytes. In v1 and hybrid torrents the stream is the
// files (pad files included) end to end (BEP 3, BEP 47); in v2 torrents each file starts at a piece border
// (BEP 52).

#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/release_layout.h"

namespace sluice::fetch {

constexpr std::uint64_t kBlockBytes = 16384;  // BEP 3: the unit in which peers request data

/// The part of a piece that lies in one file. Bytes of a piece that no slice covers are padding, which is
/// zeros.
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
  /// The length of a piece; the last piece of the stream can be short.
  [[nodiscard]] std::uint64_t piece_bytes(std::uint64_t piece) const;
  /// The slices of the bytes [offset, offset + length) of a piece, in order; empty files have none.
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
  struct FileExtent {  // a file in the stream; pad files and empty files have none
    std::uint64_t start_bytes;
    std::uint64_t length_bytes;
    std::size_t file_index;
  };
  std::vector<FileExtent> extents_;          // in stream order
  std::vector<std::size_t> extent_of_file_;  // npos for files without an extent
  std::uint64_t piece_bytes_;
  std::uint64_t stream_bytes_ = 0;
  std::uint64_t piece_count_ = 0;
};

}  // namespace sluice::fetch
