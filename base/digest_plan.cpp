// Cuts the stream into work units. A unit grows until it has unit_bytes_ and the next allowed cut is reached;
// files that may not be cut end up in one unit, whatever their length. The whole plan is computed before the
// first read, so that the threads need nothing but a counter to share the work.
//
// Invariants: the units cover the stream without gaps and in order, and no v1 piece, leaf or node belongs to
// two units. The second one is what lets every unit write its results without a lock.

#include "base/digest_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/bytes.h"
#include "base/merkle.h"

namespace sluice::base {
namespace {

constexpr std::uint64_t kUnitBytesMin = std::uint64_t{2} << 20;  // about a millisecond of work
constexpr std::uint64_t kUnitCountMax = 1 << 16;  // so that the plan of a large release stays small
constexpr std::uint64_t kCutPeriodBytesMax = std::uint64_t{256} << 20;
constexpr std::uint64_t kNowhere = std::numeric_limits<std::uint64_t>::max();

class Planner {
 public:
  Planner(std::span<const DigestInput> inputs, const DigestWants& wants)
      : inputs_(inputs), wants_(wants), pieces_(wants.v1_piece_bytes > 0) {
    std::uint64_t total_bytes = 0;
    for (const DigestInput& input : inputs) total_bytes += input.length_bytes;
    unit_bytes_ = std::max(kUnitBytesMin, total_bytes / kUnitCountMax);
    plan_.units_of_input.resize(inputs.size());
  }

  DigestPlan plan() {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const bool pad = inputs_[i].path.empty();
      if (pad && !pieces_) continue;
      // Small files share a unit until it is long enough. A release of many small files would otherwise have
      // as many units.
      if (unit_.length_bytes >= unit_bytes_ && may_end_here()) end_unit();
      add_input(i);
    }
    end_unit();
    return std::move(plan_);
  }

 private:
  /// True when a unit may end between the last file and the next one.
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
      if (at_bytes == cut_bytes) end_unit();
    } while (at_bytes < length_bytes);
  }

  /// Where a file may be cut: at offsets for which (offset + phase) is a multiple of the period.
  struct Cuts {
    std::uint64_t period_bytes = 0;  // 0: the file must not be cut
    std::uint64_t phase_bytes = 0;
  };

  [[nodiscard]] Cuts cuts_of(const DigestInput& input) const {
    if (wants_.md5 || wants_.sha256) return {};  // sequential over the whole file
    const std::uint64_t piece_bytes = wants_.v1_piece_bytes;
    const std::uint64_t node_bytes =
        has_layer(input, wants_) ? wants_.blocks_per_node * kMerkleBlockBytes : kMerkleBlockBytes;
    // Without leaves only pieces matter, which begin at any byte of a file: the phase is the length of the
    // first piece that lies in earlier files.
    if (!wants_.leaves) return pieces_ ? Cuts{piece_bytes, stream_bytes_ % piece_bytes} : Cuts{node_bytes, 0};
    if (!pieces_) return {node_bytes, 0};
    // In a torrent without pad files, pieces can begin within leaves and then have no borders in common with
    // them. In a padded torrent every file begins with a piece.
    if (stream_bytes_ % piece_bytes != 0 || piece_bytes > kCutPeriodBytesMax ||
        node_bytes > kCutPeriodBytesMax)
      return {};
    // A cut must end a piece and a node at once.
    const std::uint64_t period_bytes = std::lcm(piece_bytes, node_bytes);
    // With a longer period there would be too few units to share out, so such a file is one unit.
    return period_bytes <= kCutPeriodBytesMax ? Cuts{period_bytes, 0} : Cuts{};
  }

  /// The first cut that makes the unit at least unit_bytes_ long.
  [[nodiscard]] std::uint64_t next_cut(const Cuts& cuts, std::uint64_t at_bytes) const {
    if (cuts.period_bytes == 0) return kNowhere;
    // At least one byte, so that each segment makes progress even when the unit is long enough already.
    const std::uint64_t missing_bytes = unit_bytes_ - std::min(unit_bytes_ - 1, unit_.length_bytes);
    return align_up(at_bytes + missing_bytes + cuts.phase_bytes, cuts.period_bytes) - cuts.phase_bytes;
  }

  void add_segment(const Segment& segment) {
    plan_.segments.push_back(segment);
    ++plan_.units_of_input[segment.input];
    ++unit_.segment_count;
    unit_.length_bytes += segment.length_bytes;
    stream_bytes_ += segment.length_bytes;
  }

  void end_unit() {
    if (unit_.segment_count > 0) plan_.units.push_back(unit_);
    unit_ = {stream_bytes_, 0, plan_.segments.size(), 0};
  }

  std::span<const DigestInput> inputs_;
  const DigestWants& wants_;
  bool pieces_;
  std::uint64_t unit_bytes_ = 0;
  std::uint64_t stream_bytes_ = 0;
  WorkUnit unit_;  // the one that is being filled
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
