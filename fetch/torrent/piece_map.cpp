// Only files with bytes on the disk have an extent. Piece numbers and offsets in the stream are 64-bit and
// were checked when the torrent was read, so the sums here cannot overflow.

#include "fetch/torrent/piece_map.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::fetch {
namespace {

constexpr auto kNone = static_cast<std::size_t>(-1);

}  // namespace

PieceMap::PieceMap(const format::ReleaseLayout& layout)
    : extent_of_file_(layout.files.size(), kNone), piece_bytes_(layout.piece_bytes) {
  const bool aligned = layout.v1_pieces.empty();  // v2 alone: the files have no common stream
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    const format::ReleaseFile& file = layout.files[i];
    if (file.length_bytes == 0) continue;
    if (aligned) stream_bytes_ = base::divide_up(stream_bytes_, piece_bytes_) * piece_bytes_;
    if (!file.pad) {
      extent_of_file_[i] = extents_.size();
      extents_.push_back({stream_bytes_, file.length_bytes, i});
    }
    stream_bytes_ += file.length_bytes;
  }
  piece_count_ = base::divide_up(stream_bytes_, piece_bytes_);
}

std::uint64_t PieceMap::piece_bytes(std::uint64_t piece) const {
  INVARIANT(piece < piece_count_);
  return std::min(piece_bytes_, stream_bytes_ - piece * piece_bytes_);
}

std::vector<PieceSlice> PieceMap::slices(std::uint64_t piece, std::uint64_t offset_bytes,
                                         std::uint64_t length_bytes) const {
  const std::uint64_t piece_start = piece * piece_bytes_;
  const std::uint64_t start = piece_start + offset_bytes;
  const std::uint64_t end = start + length_bytes;
  std::vector<PieceSlice> found;
  // Extents are sorted and do not overlap, so the first one that ends behind `start` is found by bisection.
  auto extent = std::ranges::partition_point(
      extents_, [&](const FileExtent& e) { return e.start_bytes + e.length_bytes <= start; });
  for (; extent != extents_.end() && extent->start_bytes < end; ++extent) {
    const std::uint64_t from = std::max(start, extent->start_bytes);
    const std::uint64_t to = std::min(end, extent->start_bytes + extent->length_bytes);
    found.push_back({extent->file_index, from - extent->start_bytes, from - piece_start, to - from});
  }
  return found;
}

PieceMap::Range PieceMap::pieces_of(std::size_t file_index) const {
  const std::size_t at = extent_of_file_.at(file_index);
  if (at == kNone) return {};
  const FileExtent& extent = extents_[at];
  return {extent.start_bytes / piece_bytes_,
          base::divide_up(extent.start_bytes + extent.length_bytes, piece_bytes_)};
}

}  // namespace sluice::fetch
