#pragma once
// The plan of a conversion: everything that it will read and write, decided and checked before it writes
// anything.

#include <filesystem>
#include <vector>

#include "base/file.h"
#include "convert/convert.h"
#include "format/container_format.h"
#include "format/released_model.h"

namespace sluice::convert {

using format::TensorSource;

struct PlannedTensor {
  format::ModelTensor target;
  const format::TensorView* source;  ///< into Plan::release
  format::Storage storage;
};

/// The layout of a tensor in tiled storage.
[[nodiscard]] inline format::TileLayout tensor_layout(const PlannedTensor& tensor) {
  return {format::tile_type(tensor.storage), tensor.target.shape[0], tensor.target.shape[1]};
}

struct Plan {
  format::ReleasedModel release;
  std::vector<base::File> files;       ///< the release's files, opened
  std::vector<PlannedTensor> tensors;  ///< in container order
  std::uint64_t input_bytes = 0;
  std::uint64_t spare_rows = 0;  ///< as require_usable_tokenizer() says

  /// `input` is a release folder or a checkpoint file in one. Errors as format::open_released_model;
  /// Error{usage} when there is no such file.
  [[nodiscard]] static Plan make(const std::filesystem::path& input, const MatrixTypes& types);
};

[[nodiscard]] format::Storage storage_for(format::QuantizationClass quantization, const MatrixTypes& types);
/// Chooses for one tensor, which matters where the embedding is the head.
[[nodiscard]] format::Storage storage_for(const format::ModelTensor& tensor, const MatrixTypes& types);
/// Chooses for one tensor of a release. A matrix in MXFP4 stays as it is, unless its values are stored as
/// bf16 (docs/decisions/0036-mxfp4-is-kept-exact.md).
[[nodiscard]] format::Storage storage_for(const format::ModelTensor& tensor, format::DType source,
                                          const MatrixTypes& types);

}  // namespace sluice::convert
