#pragma once
// One expert's bytes in the container, cut into the pieces in which they are read when they do not stay in
// memory. Pieces are in the order in which a forward pass needs them, so that computing may begin before all
// of them are read:
//
//   scales of w1 and w3, codes of w1 and w3 by turns, scales of w2, codes of w2
//
// A matrix's scales, and its bias where it has one, lie behind its codes, yet every panel needs them, so they
// are read first. The page that codes and scales share is read with the scales. Pieces begin and end on
// pages, as O_DIRECT demands.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/memory/model_impl.h"

namespace sluice::runtime {

/// The matrices in the order in which they lie in the container.
enum class ExpertMatrix : std::uint8_t { gate, up, down };

class ExpertExtent {
 public:
  struct Piece {
    ExpertMatrix matrix = ExpertMatrix::gate;
    bool scales = false;
    std::uint64_t begin_bytes = 0;  ///< from the begin of the extent
    std::uint64_t end_bytes = 0;
  };

  /// `mapping` is the container's first byte.
  ExpertExtent(const ExpertWeights& expert, const std::byte* mapping, std::uint64_t piece_bytes_max);

  [[nodiscard]] std::uint64_t offset_bytes() const { return offset_bytes_; }  ///< in the file
  /// A multiple of the page size. The bytes after the last matrix belong to other tensors or are padding.
  [[nodiscard]] std::uint64_t length_bytes() const { return length_bytes_; }
  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }
  /// The first piece of w2: what comes before is all that the hidden values need.
  [[nodiscard]] std::size_t first_down_piece() const { return first_down_piece_; }

  /// The number of pieces, counted from the first, that contain everything that the panels before
  /// `panels_end` need. A count of a prefix is enough to wait for, because pieces are read in order.
  [[nodiscard]] std::size_t pieces_for(ExpertMatrix matrix, std::size_t panels_end) const;

  /// The matrix in a copy of the whole extent that begins at `extent`.
  [[nodiscard]] Matrix matrix_in(const std::byte* extent, ExpertMatrix matrix) const;

 private:
  struct Place {
    format::TileLayout layout;
    std::uint64_t begin_bytes;      // from the begin of the extent
    std::uint64_t codes_end_bytes;  // from the begin of the extent, rounded down to a page
    std::uint64_t end_bytes;        // from the begin of the extent, rounded up to a page; behind the bias
    std::uint64_t bias_bytes;       // from the begin of the extent; 0: no bias
  };
  [[nodiscard]] const Place& place(ExpertMatrix matrix) const {
    return places_[static_cast<std::size_t>(matrix)];
  }
  void add_scales(ExpertMatrix matrix);
  /// Codes of the matrices by turns.
  void add_codes(std::initializer_list<ExpertMatrix> matrices, std::uint64_t piece_bytes_max);

  std::uint64_t offset_bytes_;
  std::uint64_t length_bytes_;
  std::array<Place, 3> places_;
  std::vector<Piece> pieces_;
  std::size_t first_down_piece_ = 0;
};

}  // namespace sluice::runtime
