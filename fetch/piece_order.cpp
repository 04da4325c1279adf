#include "fetch/piece_order.h"

#include <algorithm>

namespace sluice::fetch {
namespace {

constexpr std::uint64_t kSmallFileBytes = 16u << 20;
constexpr std::uint64_t kWindowBytes = 512u << 20;
constexpr std::uint64_t kWindowPiecesMin = 32;

}  // namespace

PieceOrder::PieceOrder(const format::ReleaseLayout& layout, const PieceMap& map,
                       const std::vector<bool>& wanted_files)
    : wanted_bytes_(map.piece_count(), 0),
      window_pieces_(std::max(kWindowBytes / layout.piece_bytes, kWindowPiecesMin)) {
  std::vector<bool> listed(map.piece_count(), false);
  for (const bool small : {true, false}) {
    for (std::size_t i = 0; i < layout.files.size(); ++i) {
      if (!wanted_files[i] || (layout.files[i].length_bytes <= kSmallFileBytes) != small) continue;
      const auto [first, last] = map.pieces_of(i);
      for (std::uint64_t piece = first; piece < last; ++piece) {
        if (!listed[piece]) order_.push_back(piece);
        listed[piece] = true;
      }
    }
  }
  for (const std::uint64_t piece : order_)
    for (const PieceSlice& slice : map.slices(piece))
      if (wanted_files[slice.file_index])
        wanted_bytes_[piece] += static_cast<std::uint32_t>(slice.length_bytes);
}

std::vector<std::uint64_t> PieceOrder::next(const std::vector<bool>& have) {
  while (first_missing_ < order_.size() && have[order_[first_missing_]]) ++first_missing_;
  std::vector<std::uint64_t> entered;
  const std::size_t end = std::min<std::size_t>(first_missing_ + window_pieces_, order_.size());
  for (told_ = std::max(told_, first_missing_); told_ < end; ++told_)
    if (!have[order_[told_]]) entered.push_back(order_[told_]);
  return entered;
}

}  // namespace sluice::fetch
