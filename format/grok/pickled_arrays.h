#pragma once
// Reads the NumPy arrays of a pickle (protocol 4) as data, in the one form in which Grok-1 was released: a
// file holds an array, or a QuantizedWeight8bit with the arrays `weight` and `scales`. It imports, calls and
// builds nothing: a global is an opaque tag from a short allow-list, REDUCE, NEWOBJ and BUILD are legal only
// for these tags with arguments of the right shape, and everything else is refused with its offset. The
// elements are skipped, so a file of gigabytes costs a few reads.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace sluice::format {

/// An array whose elements lie in one piece within the pickle.
struct PickledArray {
  std::string name;  ///< "weight" or "scales"; empty: the array is all that the file holds
  DType dtype = DType::f32;
  Shape shape;
  std::vector<std::uint64_t> strides;  ///< in elements, one for each extent
  std::uint64_t offset_bytes = 0;      ///< of the first element in the file
};

/// One array without a name, or a quantized matrix's two. Error{malformed} "FILE: offset N: ...".
[[nodiscard]] std::vector<PickledArray> read_pickled_arrays(const base::File& file);

}  // namespace sluice::format
