#pragma once
// A piece of which some blocks have arrived.

#include <cstdint>
#include <vector>

namespace sluice::fetch {

constexpr std::uint64_t kBlockBytes = 16384;  // BEP 3; what peers ask each other for

struct BegunPiece {
  std::uint64_t index = 0;
  std::vector<bool> blocks;  ///< one a block of kBlockBytes: true when it is on the disk
};

}  // namespace sluice::fetch
