#include "base/bytes.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/invariant.h"

namespace sluice::base {

bool all_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

void invariant_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "sluice: bug: %s:%d: %s does not hold\n", file, line, condition);
  std::abort();
}

}  // namespace sluice::base
