#pragma once
// Where two pieces of memory differ: what is written when a file is mended in place.

#include <cstddef>

#include "base/bytes.h"

namespace sluice::base {

/// Half-open range from the first byte that differs to the last; empty when none does.
struct Difference {
  std::size_t first = 0;
  std::size_t last = 0;

  [[nodiscard]] bool empty() const { return first == last; }
};

/// Both have the same size.
[[nodiscard]] Difference find_difference(Bytes a, Bytes b);

}  // namespace sluice::base
