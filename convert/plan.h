#pragma once
// What a conversion will do, settled and checked before anything is written.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "convert/convert.h"
#include "format/checkpoint_index.h"
#include "format/container_format.h"
#include "format/model_params.h"
#include "format/model_tensors.h"

namespace sluice::convert {

struct PlannedTensor {
  format::ModelTensor target;
  const format::CheckpointTensor* source;  ///< into Plan::checkpoint
  format::Storage storage;
};

/// Only for tiled storage.
[[nodiscard]] inline format::TileLayout tensor_layout(const PlannedTensor& tensor) {
  return {format::tile_type(tensor.storage), tensor.target.shape[0], tensor.target.shape[1]};
}

struct Plan {
  format::ModelParams params;
  format::CheckpointIndex checkpoint;
  std::vector<base::File> files;       ///< of the checkpoint, opened
  std::vector<PlannedTensor> tensors;  ///< in container order
  std::vector<std::byte> tokenizer;    ///< tokenizer.model
  std::string params_text;             ///< params.json as released
  std::uint64_t input_bytes = 0;

  /// The release folder that `input` (a folder or its checkpoint file) stands for.
  [[nodiscard]] static Plan make(const std::filesystem::path& input, Quant quant);
};

/// Type of a tensor under a recipe: router and norms f32, the embedding bf16; q4 applies to the experts, with
/// attention and head in q8.
[[nodiscard]] format::Storage storage_for(format::TensorRole role, Quant quant);

[[nodiscard]] std::string_view to_string(Quant quant);
[[nodiscard]] std::optional<Quant> parse_quant(std::string_view name);

}  // namespace sluice::convert
