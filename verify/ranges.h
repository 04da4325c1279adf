#pragma once
// Half-open ranges of bytes: where a file or a stream is wrong.

#include <cstdint>
#include <vector>

namespace sluice::verify {

struct Range {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;

  [[nodiscard]] std::uint64_t end_bytes() const { return offset_bytes + length_bytes; }
  bool operator==(const Range&) const = default;
};

/// What two ranges share; of length 0 when they share nothing.
[[nodiscard]] Range intersection(const Range& a, const Range& b);

/// Sorts, joins ranges that touch or overlap, and drops empty ones.
void normalize(std::vector<Range>& ranges);

[[nodiscard]] bool overlaps(const std::vector<Range>& ranges, const Range& range);

/// The ranges, in units of `unit_bytes` up to `end_bytes`, in which `is_bad(unit_index)`; not joined.
template <typename IsBad>
[[nodiscard]] std::vector<Range> bad_units(std::uint64_t unit_bytes, std::uint64_t end_bytes, IsBad is_bad) {
  std::vector<Range> bad;
  for (std::uint64_t start = 0, index = 0; start < end_bytes; start += unit_bytes, ++index) {
    const std::uint64_t left_bytes = end_bytes - start;
    if (is_bad(index)) bad.push_back({start, left_bytes < unit_bytes ? left_bytes : unit_bytes});
  }
  return bad;
}

}  // namespace sluice::verify
