#include "base/byte_range.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/invariant.h"

namespace sluice::base {

ByteRange intersection(const ByteRange& a, const ByteRange& b) {
  const std::uint64_t start = std::max(a.offset_bytes, b.offset_bytes);
  const std::uint64_t end = std::min(a.end_bytes(), b.end_bytes());
  return {start, end > start ? end - start : 0};
}

bool overlaps(const ByteRange& a, const ByteRange& b) { return intersection(a, b).length_bytes > 0; }

bool overlaps(const std::vector<ByteRange>& ranges, const ByteRange& range) {
  return std::ranges::any_of(ranges, [&](const ByteRange& other) { return overlaps(other, range); });
}

void normalize(std::vector<ByteRange>& ranges) {
  std::erase_if(ranges, [](const ByteRange& range) { return range.length_bytes == 0; });
  std::ranges::sort(ranges, {}, &ByteRange::offset_bytes);
  std::vector<ByteRange> joined;
  for (const ByteRange& range : ranges) {
    // Ranges that only touch are joined, too. After sorting, a range can only overlap the last one that was
    // joined.
    if (!joined.empty() && range.offset_bytes <= joined.back().end_bytes()) {
      ByteRange& last = joined.back();
      last.length_bytes = std::max(last.end_bytes(), range.end_bytes()) - last.offset_bytes;
    } else {
      joined.push_back(range);
    }
  }
  ranges = std::move(joined);
}

std::uint64_t total_bytes(const std::vector<ByteRange>& ranges) {
  std::uint64_t sum_bytes = 0;
  for (const ByteRange& range : ranges) sum_bytes += range.length_bytes;
  return sum_bytes;
}

ByteRange find_difference(Bytes a, Bytes b) {
  INVARIANT(a.size() == b.size());
  const auto first = std::ranges::mismatch(a, b).in1;
  if (first == a.end()) return {};
  const auto offset_bytes = static_cast<std::uint64_t>(std::distance(a.begin(), first));
  std::size_t end = a.size();
  // Ends at `first` at the latest, where the two differ.
  while (a[end - 1] == b[end - 1]) --end;
  return {offset_bytes, end - offset_bytes};
}

}  // namespace sluice::base
