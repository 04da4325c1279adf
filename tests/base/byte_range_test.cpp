#include "base/byte_range.h"

#include <doctest/doctest.h>

#include <vector>

using namespace sluice::base;

TEST_CASE("ranges that only touch have no byte in common") {
  CHECK_FALSE(overlaps({0, 10}, {10, 5}));
  CHECK(overlaps({0, 11}, {10, 5}));
  CHECK_FALSE(overlaps({3, 0}, {0, 10}));
  CHECK(intersection({4, 10}, {0, 6}) == ByteRange{4, 2});
  CHECK(intersection({0, 4}, {8, 2}).length_bytes == 0);
  CHECK(overlaps({{0, 2}, {8, 2}}, {9, 9}));
  CHECK_FALSE(overlaps({{0, 2}, {8, 2}}, {2, 6}));
}

TEST_CASE("normalized ranges are sorted, joined and not empty") {
  std::vector<ByteRange> ranges{{20, 5}, {0, 4}, {4, 2}, {22, 1}, {9, 0}, {5, 3}};
  normalize(ranges);
  CHECK(ranges == std::vector<ByteRange>{{0, 8}, {20, 5}});
  CHECK(total_bytes(ranges) == 13);
}

TEST_CASE("the difference reaches from the first byte that differs to the last") {
  CHECK(find_difference(as_bytes("same"), as_bytes("same")).length_bytes == 0);
  CHECK(find_difference({}, {}).length_bytes == 0);
  CHECK(find_difference(as_bytes("abcdef"), as_bytes("abXdYf")) == ByteRange{2, 3});
  CHECK(find_difference(as_bytes("abc"), as_bytes("xbc")) == ByteRange{0, 1});
  CHECK(find_difference(as_bytes("abc"), as_bytes("abx")) == ByteRange{2, 1});
}
