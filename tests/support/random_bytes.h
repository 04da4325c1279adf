#pragma once

#include <cstddef>
#include <random>
#include <vector>

namespace sluice::tests {

[[nodiscard]] inline std::vector<std::byte> random_bytes(std::mt19937& random, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

}  // namespace sluice::tests
