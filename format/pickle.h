#pragma once
// Reads a torch state dict from its pickle, as data. It imports, calls and builds nothing: a global is an
// opaque tag from a short allow-list, REDUCE is legal only for a tag with a tuple of the right shape, and
// every other opcode, tag or shape is refused with its offset and name. It accepts exactly what torch.save
// writes for {name: tensor}, so anything else in the stream is damage or an attack. The opcodes are a subset
// of those of torch/_weights_only_unpickler.py.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "format/tensor.h"

namespace sluice::format {

/// A tensor as the pickle describes it: a view into a storage. The numbers are not negative. The caller
/// checks that the view lies inside the storage.
struct PickledTensor {
  std::string name;
  DType dtype = DType::f32;
  std::string storage_key;  ///< letters, digits and '_' only
  std::uint64_t storage_elements = 0;
  std::uint64_t offset_elements = 0;
  Shape shape;
  std::vector<std::uint64_t> strides;  ///< in elements, one for each extent
};

/// The tensors of a pickled {name: tensor} in the order of the pickle. Throws Error{malformed}
/// "SUBJECT: offset N: ...".
[[nodiscard]] std::vector<PickledTensor> read_state_dict(base::Bytes pickle, std::string_view subject);

}  // namespace sluice::format
