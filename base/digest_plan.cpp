#include "base/digest_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/bytes.h"
#include "base/merkle.h"

namespace sluice::base {
namespace {

constexpr std::uint64_t kStrandBytesMin = std::uint64_t{2} << 20;  // a millisecond of work
constexpr std::uint64_t kStrandCountMax = 1 << 16;                 // about
constexpr std::uint64_t kUnitBytesMax = std::uint64_t{256} << 20;
constexpr std::uint64_t kNowhere = std::numeric_limits<std::uint64_t>::max();

class Planner {
 public:
  Planner(std::span<const DigestInput> inputs, const DigestWants& wants)
      : inputs_(inputs), wants_(wants), pieces_(wants.v1_piece_bytes > 0) {
    std::uint64_t total_bytes = 0;
    for (const DigestInput& input : inputs) total_bytes += input.length_bytes;
    strand_bytes_ = std::max(kStrandBytesMin, total_bytes / kStrandCountMax);
    plan_.strands_of_input.resize(inputs.size());
  }

  DigestPlan plan() {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const bool pad = inputs_[i].path.empty();
      if (pad && !pieces_) continue;
      if (strand_.length_bytes >= strand_bytes_ && may_end_here()) end_strand();
      add_input(i);
    }
    end_strand();
    return std::move(plan_);
  }

 private:
  /// Between two files.
  [[nodiscard]] bool may_end_here() const { return !pieces_ || stream_bytes_ % wants_.v1_piece_bytes == 0; }

  void add_input(std::size_t index) {
    const std::uint64_t length_bytes = inputs_[index].length_bytes;
    const Cuts cuts = cuts_of(inputs_[index]);
    std::uint64_t at_bytes = 0;
    do {
      const std::uint64_t cut_bytes = next_cut(cuts, at_bytes);
      const std::uint64_t take_bytes = std::min(cut_bytes, length_bytes) - at_bytes;
      add_segment({index, at_bytes, take_bytes});
      at_bytes += take_bytes;
      if (at_bytes == cut_bytes) end_strand();
    } while (at_bytes < length_bytes);
  }

  /// Where a file may be cut: at offsets of which (offset + phase) is a multiple of the unit.
  struct Cuts {
    std::uint64_t unit_bytes = 0;  // 0: nowhere
    std::uint64_t phase_bytes = 0;
  };

  [[nodiscard]] Cuts cuts_of(const DigestInput& input) const {
    if (wants_.md5 || wants_.sha256) return {};
    const std::uint64_t piece_bytes = wants_.v1_piece_bytes;
    const std::uint64_t node_bytes =
        has_layer(input, wants_) ? wants_.blocks_per_node * kMerkleBlockBytes : kMerkleBlockBytes;
    if (!wants_.leaves) return pieces_ ? Cuts{piece_bytes, stream_bytes_ % piece_bytes} : Cuts{node_bytes, 0};
    if (!pieces_) return {node_bytes, 0};
    // Pieces that begin within leaves have no borders in common with them; in padded torrents all files begin
    // with a piece.
    if (stream_bytes_ % piece_bytes != 0 || piece_bytes > kUnitBytesMax || node_bytes > kUnitBytesMax)
      return {};
    const std::uint64_t unit_bytes = std::lcm(piece_bytes, node_bytes);
    return unit_bytes <= kUnitBytesMax ? Cuts{unit_bytes, 0} : Cuts{};
  }

  /// The first cut that makes the strand long enough.
  [[nodiscard]] std::uint64_t next_cut(const Cuts& cuts, std::uint64_t at_bytes) const {
    if (cuts.unit_bytes == 0) return kNowhere;
    const std::uint64_t missing_bytes = strand_bytes_ - std::min(strand_bytes_ - 1, strand_.length_bytes);
    return align_up(at_bytes + missing_bytes + cuts.phase_bytes, cuts.unit_bytes) - cuts.phase_bytes;
  }

  void add_segment(const Segment& segment) {
    plan_.segments.push_back(segment);
    ++plan_.strands_of_input[segment.input];
    ++strand_.segment_count;
    strand_.length_bytes += segment.length_bytes;
    stream_bytes_ += segment.length_bytes;
  }

  void end_strand() {
    if (strand_.segment_count > 0) plan_.strands.push_back(strand_);
    strand_ = {stream_bytes_, 0, plan_.segments.size(), 0};
  }

  std::span<const DigestInput> inputs_;
  const DigestWants& wants_;
  bool pieces_;
  std::uint64_t strand_bytes_ = 0;
  std::uint64_t stream_bytes_ = 0;
  Strand strand_;  // being made
  DigestPlan plan_;
};

}  // namespace

bool has_layer(const DigestInput& input, const DigestWants& wants) {
  return wants.blocks_per_node > 1 &&
         divide_up(input.length_bytes, kMerkleBlockBytes) > wants.blocks_per_node;
}

DigestPlan make_plan(std::span<const DigestInput> inputs, const DigestWants& wants) {
  return Planner(inputs, wants).plan();
}

}  // namespace sluice::base
