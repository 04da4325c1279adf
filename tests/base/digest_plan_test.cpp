#include "base/digest_plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "base/bytes.h"
#include "base/merkle.h"

using namespace sluice::base;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::vector<DigestInput> files(const std::vector<std::uint64_t>& lengths_bytes) {
  std::vector<DigestInput> inputs;
  for (const std::uint64_t length : lengths_bytes) inputs.push_back({"f", length});
  return inputs;
}

/// That the units are the stream, cut where it may be cut.
void check_plan(std::span<const DigestInput> inputs, const DigestWants& wants) {
  const DigestPlan plan = make_plan(inputs, wants);
  const std::uint64_t piece_bytes = wants.v1_piece_bytes;
  std::uint64_t stream_bytes = 0;
  std::vector<std::uint64_t> done_bytes(inputs.size());
  std::vector<std::size_t> units_of_input(inputs.size());
  std::size_t next_segment = 0;
  for (const WorkUnit& unit : plan.units) {
    CHECK(unit.stream_offset_bytes == stream_bytes);
    CHECK(unit.first_segment == next_segment);
    CHECK(unit.segment_count > 0);
    if (piece_bytes > 0) CHECK(stream_bytes % piece_bytes == 0);
    for (std::size_t i = 0; i < unit.segment_count; ++i) {
      const Segment& segment = plan.segments[next_segment++];
      const DigestInput& input = inputs[segment.input];
      CHECK(segment.offset_bytes == done_bytes[segment.input]);
      const bool cut = segment.offset_bytes > 0;
      if (cut && (wants.md5 || wants.sha256)) FAIL_CHECK("a file with a chain is cut");
      const std::uint64_t node_bytes =
          kMerkleBlockBytes * (has_layer(input, wants) ? wants.blocks_per_node : 1);
      if (cut && wants.leaves) CHECK(segment.offset_bytes % node_bytes == 0);
      done_bytes[segment.input] += segment.length_bytes;
      stream_bytes += segment.length_bytes;
      ++units_of_input[segment.input];
    }
    CHECK(unit.stream_offset_bytes + unit.length_bytes == stream_bytes);
  }
  CHECK(next_segment == plan.segments.size());
  CHECK(units_of_input == plan.units_of_input);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool taken = !inputs[i].path.empty() || piece_bytes > 0;
    CHECK(done_bytes[i] == (taken ? inputs[i].length_bytes : 0));
    CHECK((units_of_input[i] > 0) == taken);
  }
}

std::vector<std::uint64_t> lengths_of(const DigestPlan& plan) {
  std::vector<std::uint64_t> lengths;
  for (const WorkUnit& unit : plan.units) lengths.push_back(unit.length_bytes);
  return lengths;
}

}  // namespace

TEST_CASE("plans of random file lists cover the stream, and cut it only where no digest continues") {
  std::mt19937 random(1);
  const auto below = [&](std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random);
  };
  for (int round = 0; round < 400; ++round) {
    CAPTURE(round);
    std::vector<DigestInput> inputs(below(12));
    DigestWants wants{below(4) == 0, below(4) == 0, below(2) == 0, std::uint64_t{1} << below(9), 0};
    if (below(3) > 0)
      wants.v1_piece_bytes = below(3) == 0 ? 1 + below(3 * kMiB) : kMerkleBlockBytes << below(9);
    std::uint64_t stream_bytes = 0;
    for (DigestInput& input : inputs) {
      const bool pad = below(4) == 0;
      if (!pad) input.path = "f";
      input.length_bytes = below(5) == 0 ? 0 : below(40 * kMiB);
      if (pad && wants.v1_piece_bytes > 0)  // as in a padded torrent
        input.length_bytes = align_up(stream_bytes, wants.v1_piece_bytes) - stream_bytes;
      stream_bytes += input.length_bytes;
    }
    check_plan(inputs, wants);
  }
}

TEST_CASE("work is cut fine enough for many threads, and not finer") {
  DigestWants pieces;
  pieces.v1_piece_bytes = 4 * kMiB;
  CHECK(lengths_of(make_plan(files({3 * kMiB, 10 * kMiB}), pieces)) ==
        std::vector<std::uint64_t>{4 * kMiB, 4 * kMiB, 4 * kMiB, kMiB});
  DigestWants leaves;
  leaves.leaves = true;
  CHECK(lengths_of(make_plan(files({5 * kMiB}), leaves)) ==
        std::vector<std::uint64_t>{2 * kMiB, 2 * kMiB, kMiB});
  DigestWants chain;
  chain.md5 = true;
  CHECK(lengths_of(make_plan(files({5 * kMiB, 3 * kMiB}), chain)) ==
        std::vector<std::uint64_t>{5 * kMiB, 3 * kMiB});
  // Small files go together.
  CHECK(make_plan(files(std::vector<std::uint64_t>(1000, 1000)), chain).units.size() == 1);
  // A file that begins within a piece and a leaf of which both are wanted cannot be cut.
  DigestWants both = pieces;
  both.leaves = true;
  CHECK(lengths_of(make_plan(files({kMiB + 1, 20 * kMiB}), both)) ==
        std::vector<std::uint64_t>{21 * kMiB + 1});
}
