#pragma once
// The order in which pieces are requested. Small files (parameters, tokenizer) come first, because work on a
// release can begin with them. Then a window moves through the large files in the order of the numbers in
// their names, which is the order of the layers. Inside the window, and outside it when no peer has a piece
// of the window, the rarest pieces come first.

#include <cstdint>
#include <vector>

#include "fetch/torrent/piece_map.h"

namespace sluice::fetch {

class PieceOrder final {
 public:
  /// Takes the pieces of `wanted_files` (one flag per file) that `wanted_pieces` names (one flag per piece),
  /// or all of them when `wanted_pieces` is empty.
  PieceOrder(const format::ReleaseLayout& layout, const PieceMap& map, const std::vector<bool>& wanted_files,
             const std::vector<bool>& wanted_pieces = {});

  [[nodiscard]] bool wanted(std::uint64_t piece) const { return wanted_bytes_[piece] > 0; }
  /// Bytes of wanted files in the piece.
  [[nodiscard]] std::uint64_t wanted_bytes(std::uint64_t piece) const { return wanted_bytes_[piece]; }
  [[nodiscard]] const std::vector<std::uint32_t>& pieces() const { return order_; }

  /// Missing pieces that have entered the window since the last call. `have` has one flag per piece.
  [[nodiscard]] std::vector<std::uint64_t> next(const std::vector<bool>& have);

 private:
  std::vector<std::uint32_t> wanted_bytes_;
  std::vector<std::uint32_t> order_;  // all wanted pieces
  std::uint64_t window_pieces_;
  std::size_t first_missing_ = 0;  // into order_
  std::size_t window_end_ = 0;     // into order_
};

}  // namespace sluice::fetch
