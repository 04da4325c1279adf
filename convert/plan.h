#pragma once
// What a conversion will do, settled and checked before anything is written.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
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

/// Only for tiled storage.
[[nodiscard]] inline format::TileLayout tensor_layout(const PlannedTensor& tensor) {
  return {format::tile_type(tensor.storage), tensor.target.shape[0], tensor.target.shape[1]};
}

struct Plan {
  format::ReleasedModel release;
  std::vector<base::File> files;       ///< of the release, opened
  std::vector<PlannedTensor> tensors;  ///< in container order
  std::uint64_t input_bytes = 0;

  /// The release folder that `input` (a folder or its checkpoint file) stands for.
  [[nodiscard]] static Plan make(const std::filesystem::path& input, const MatrixTypes& types);
};

[[nodiscard]] format::Storage storage_for(format::TensorRole role, const MatrixTypes& types);

[[nodiscard]] std::string_view to_string(Quant quant);
[[nodiscard]] std::optional<Quant> parse_quant(std::string_view name);

}  // namespace sluice::convert
