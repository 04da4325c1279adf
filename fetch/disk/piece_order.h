#pragma once
// In which order pieces are asked for: those of small files first (parameters, tokenizer), since work on a
// release can begin with them; then a window that moves through the large files in the order of the numbers
// in their names, in which layers lie as they are needed. Inside the window, and behind it when nobody has
// what is in it, the rarest first.

#include <cstdint>
#include <vector>

#include "fetch/torrent/piece_map.h"

namespace sluice::fetch {

class PieceOrder final {
 public:
  /// Of the wanted files those in `wanted_pieces` (one a piece), or all when that is empty.
  PieceOrder(const format::ReleaseLayout& layout, const PieceMap& map, const std::vector<bool>& wanted_files,
             const std::vector<bool>& wanted_pieces = {});

  [[nodiscard]] bool wanted(std::uint64_t piece) const { return wanted_bytes_[piece] > 0; }
  /// Of wanted files in it.
  [[nodiscard]] std::uint64_t wanted_bytes(std::uint64_t piece) const { return wanted_bytes_[piece]; }
  [[nodiscard]] const std::vector<std::uint32_t>& pieces() const { return order_; }

  /// Pieces that have entered the window since the last call.
  [[nodiscard]] std::vector<std::uint64_t> next(const std::vector<bool>& have);

 private:
  std::vector<std::uint32_t> wanted_bytes_;
  std::vector<std::uint32_t> order_;  // all that are wanted
  std::uint64_t window_pieces_;
  std::size_t first_missing_ = 0;  // into order_
  std::size_t told_ = 0;           // as far as the window has come
};

}  // namespace sluice::fetch
