// The pieces of an expert. Each matrix of an expert begins on a page (docs/container.md), so offsets from the
// begin of the extent are page-aligned exactly where offsets in the file are. "Scales" are all planes behind
// the codes: magnitudes, signs and row scales; and the bias, a tensor of its own that begins on the next
// page.

#include "runtime/memory/expert_extent.h"

#include <algorithm>

#include "base/aligned_buffer.h"
#include "base/bytes.h"

namespace sluice::runtime {
namespace {

std::uint64_t page_of(std::uint64_t offset_bytes) {
  return offset_bytes / base::kPageBytes * base::kPageBytes;
}

}  // namespace

ExpertExtent::ExpertExtent(const ExpertWeights& expert, const std::byte* mapping,
                           std::uint64_t piece_bytes_max)
    : offset_bytes_(static_cast<std::uint64_t>(expert.gate.matrix.data - mapping)),
      length_bytes_(0),
      places_([&] {
        const auto place_of = [&](const WeightMatrix& weights) {
          const format::TileLayout& layout = weights.matrix.layout;
          const std::uint64_t begin =
              static_cast<std::uint64_t>(weights.matrix.data - mapping) - offset_bytes_;
          // Codes end somewhere within a page. The boundary between the two kinds of pieces is rounded down,
          // so that the shared page belongs to the scales and no byte is read twice.
          const std::uint64_t codes = layout.panels * layout.panel_code_bytes;
          std::uint64_t end = begin + base::align_up(layout.total_bytes, base::kPageBytes);
          std::uint64_t bias = 0;
          if (weights.matrix.bias != nullptr) {
            bias = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(weights.matrix.bias) -
                                              mapping) -
                   offset_bytes_;
            end = bias + base::align_up(layout.rows * sizeof(float), base::kPageBytes);
          }
          return Place{layout, begin, begin + page_of(codes), end, bias};
        };
        return std::array{place_of(expert.gate), place_of(expert.up), place_of(expert.down)};
      }()) {
  length_bytes_ = places_.back().end_bytes;
  add_scales(ExpertMatrix::gate);
  add_scales(ExpertMatrix::up);
  add_codes({ExpertMatrix::gate, ExpertMatrix::up}, piece_bytes_max);
  first_down_piece_ = pieces_.size();
  add_scales(ExpertMatrix::down);
  add_codes({ExpertMatrix::down}, piece_bytes_max);
}

// bf16 matrices have no scales; what is left is at most the page in which their codes end.
void ExpertExtent::add_scales(ExpertMatrix matrix) {
  const Place& at = place(matrix);
  if (at.codes_end_bytes < at.end_bytes) pieces_.push_back({matrix, true, at.codes_end_bytes, at.end_bytes});
}

// By turns, because a task computes the same outputs of gate and up: reading all of gate first would only
// delay it.
void ExpertExtent::add_codes(std::initializer_list<ExpertMatrix> matrices, std::uint64_t piece_bytes_max) {
  bool more = true;
  for (std::uint64_t done = 0; more; done += piece_bytes_max) {
    more = false;
    for (const ExpertMatrix matrix : matrices) {
      const Place& at = place(matrix);
      const std::uint64_t begin = at.begin_bytes + done;
      if (begin >= at.codes_end_bytes) continue;
      pieces_.push_back({matrix, false, begin, std::min(begin + piece_bytes_max, at.codes_end_bytes)});
      more = true;
    }
  }
}

std::size_t ExpertExtent::pieces_for(ExpertMatrix matrix, std::size_t panels_end) const {
  const Place& at = place(matrix);
  const std::uint64_t needed_bytes = at.begin_bytes + panels_end * at.layout.panel_code_bytes;
  std::size_t count = 0;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (piece.matrix == matrix && (piece.scales || piece.begin_bytes < needed_bytes)) count = i + 1;
  }
  return count;
}

Matrix ExpertExtent::matrix_in(const std::byte* extent, ExpertMatrix matrix) const {
  const Place& at = place(matrix);
  return {at.layout, extent + at.begin_bytes,
          at.bias_bytes == 0 ? nullptr : reinterpret_cast<const float*>(extent + at.bias_bytes)};
}

}  // namespace sluice::runtime
