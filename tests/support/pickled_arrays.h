#pragma once
// Writes NumPy arrays as Python's pickle does in protocol 4, in the one form in which Grok-1 was released.
// The opcodes around the elements take as many bytes as in the released files.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "format/tensor.h"

namespace sluice::tests {

struct ArrayToPickle {
  format::DType dtype = format::DType::f32;
  format::Shape shape;
  /// Row-major, little-endian; empty: the elements are left out, and head and tails are what stands around
  /// them.
  std::string elements = {};
};

/// A pickle cut at its elements: pieces[0], elements of the first array, pieces[1], elements of the second,
/// ...
struct PickledPieces {
  std::vector<std::string> pieces;
  std::vector<std::uint64_t> element_bytes;

  [[nodiscard]] std::uint64_t size_bytes() const;
  /// The whole pickle of arrays that have their elements.
  [[nodiscard]] std::string joined(const std::vector<ArrayToPickle>& arrays) const;
};

/// One array, or the two of a QuantizedWeight8bit: weight, then scales.
[[nodiscard]] PickledPieces pickle_arrays(const std::vector<ArrayToPickle>& arrays);
[[nodiscard]] std::string pickled(const std::vector<ArrayToPickle>& arrays);

}  // namespace sluice::tests
