#include "base/difference.h"

#include <algorithm>
#include <iterator>

#include "base/invariant.h"

namespace sluice::base {

Difference find_difference(Bytes a, Bytes b) {
  INVARIANT(a.size() == b.size());
  const auto first = std::ranges::mismatch(a, b).in1;
  if (first == a.end()) return {};
  std::size_t last = a.size();
  while (a[last - 1] == b[last - 1]) --last;
  return {static_cast<std::size_t>(std::distance(a.begin(), first)), last};
}

}  // namespace sluice::base
