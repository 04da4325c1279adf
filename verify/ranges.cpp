#include "verify/ranges.h"

#include <algorithm>

namespace sluice::verify {

Range intersection(const Range& a, const Range& b) {
  const std::uint64_t start = std::max(a.offset_bytes, b.offset_bytes);
  const std::uint64_t end = std::min(a.end_bytes(), b.end_bytes());
  return {start, end > start ? end - start : 0};
}

void normalize(std::vector<Range>& ranges) {
  std::erase_if(ranges, [](const Range& range) { return range.length_bytes == 0; });
  std::ranges::sort(ranges, {}, &Range::offset_bytes);
  std::vector<Range> joined;
  for (const Range& range : ranges) {
    if (!joined.empty() && range.offset_bytes <= joined.back().end_bytes()) {
      Range& last = joined.back();
      last.length_bytes = std::max(last.end_bytes(), range.end_bytes()) - last.offset_bytes;
    } else {
      joined.push_back(range);
    }
  }
  ranges = std::move(joined);
}

bool overlaps(const std::vector<Range>& ranges, const Range& range) {
  return std::ranges::any_of(ranges,
                             [&](const Range& other) { return intersection(other, range).length_bytes > 0; });
}

}  // namespace sluice::verify
