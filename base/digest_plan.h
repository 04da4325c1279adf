#pragma once
// Cuts a list of files into work units. One worker takes a unit from the first read to the last digest.
//
// A unit ends where no computation continues across the cut: at the end of a v1 piece, of a BEP 52 leaf, or
// of a node of the tree. A digest over a whole file is sequential, so files that need one are never cut.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/multi_digest.h"

namespace sluice::base {

/// A stretch of one input. An empty file has a segment of length 0, so that its existence is checked too.
struct Segment {
  std::size_t input = 0;           ///< index
  std::uint64_t offset_bytes = 0;  ///< in the input
  std::uint64_t length_bytes = 0;
};

/// A stretch of the stream, made of segments that follow each other in it.
struct WorkUnit {
  std::uint64_t stream_offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::size_t first_segment = 0;
  std::size_t segment_count = 0;
};

struct DigestPlan {
  std::vector<Segment> segments;
  std::vector<WorkUnit> units;              ///< in stream order
  std::vector<std::size_t> units_of_input;  ///< for each input, the number of units that have a segment of it
};

/// Pad files take part only when v1 pieces are wanted. The caller has checked that the lengths sum up to less
/// than 2^63 bytes.
[[nodiscard]] DigestPlan make_plan(std::span<const DigestInput> inputs, const DigestWants& wants);

/// True when the input gets nodes of the tree instead of leaves (DigestWants::blocks_per_node).
[[nodiscard]] bool has_layer(const DigestInput& input, const DigestWants& wants);

}  // namespace sluice::base
