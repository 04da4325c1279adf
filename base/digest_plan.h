#pragma once
// What is read by whom: a list of files cut into strands, each of which one worker takes from read to digest.
//
// A strand ends where nothing that is computed goes on: at the end of a v1 piece, of a BEP 52 leaf, of a node
// of the tree. Digests of whole files are chains, so that files which have them are never cut.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/multi_digest.h"

namespace sluice::base {

/// A stretch of one input; of length 0 for an empty file, which is looked at all the same.
struct Segment {
  std::size_t input = 0;
  std::uint64_t offset_bytes = 0;  ///< in the input
  std::uint64_t length_bytes = 0;
};

/// A stretch of the stream.
struct Strand {
  std::uint64_t stream_offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::size_t first_segment = 0;
  std::size_t segment_count = 0;
};

struct DigestPlan {
  std::vector<Segment> segments;
  std::vector<Strand> strands;                ///< in the order of the stream
  std::vector<std::size_t> strands_of_input;  ///< how many have a segment of it
};

/// Pad files are part of it only when there are v1 pieces. Lengths sum up to less than 2^63.
[[nodiscard]] DigestPlan make_plan(std::span<const DigestInput> inputs, const DigestWants& wants);

/// True when digests of the input's nodes take the place of its leaves (DigestWants::blocks_per_node).
[[nodiscard]] bool has_layer(const DigestInput& input, const DigestWants& wants);

}  // namespace sluice::base
