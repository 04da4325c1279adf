#pragma once
// The one type for a stretch of bytes in a file or stream. Reports of damage, requests for repair and plans
// of reads share it, so that they can be passed on without conversion.

#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

/// Half-open: from `offset_bytes` up to, and without, end_bytes(). The end of a valid range fits 64 bits.
struct ByteRange {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;

  [[nodiscard]] constexpr std::uint64_t end_bytes() const { return offset_bytes + length_bytes; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// The bytes that lie in both ranges; the length is 0 when there are none.
[[nodiscard]] ByteRange intersection(const ByteRange& a, const ByteRange& b);

/// True when the ranges have at least one byte in common.
[[nodiscard]] bool overlaps(const ByteRange& a, const ByteRange& b);
/// True when `range` has a byte in common with any of `ranges`.
[[nodiscard]] bool overlaps(const std::vector<ByteRange>& ranges, const ByteRange& range);

/// Sorts the ranges by offset, joins those that touch or overlap, and removes empty ones.
void normalize(std::vector<ByteRange>& ranges);

/// The sum of the lengths; of normalized ranges: how many bytes they cover.
[[nodiscard]] std::uint64_t total_bytes(const std::vector<ByteRange>& ranges);

/// The range from the first byte that differs to the last; the length is 0 when none does. Both have the same
/// size. A repair writes this range, and no byte that is right already outside of it.
[[nodiscard]] ByteRange find_difference(Bytes a, Bytes b);

}  // namespace sluice::base
