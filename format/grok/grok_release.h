#pragma once
// Grok-1 as it was released (xai-org/grok-1 at 7050ed20): ckpt-0/tensorNNNNN_000, a pickle a tensor, of int8
// matrices [in, out] with bf16 scales, and f32 arrays. There is no configuration, and no tensor has a name:
// the numbers follow the order of the flattened parameter tree, whose layers are sorted as text (0, 1, 10,
// 11, 2,
// ..), and constants of the model are those of its run.py. See docs/checkpoints.md.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "format/checkpoint_index.h"
#include "format/hub/family_config.h"
#include "format/tensor_names.h"

namespace sluice::format {

/// Opens one file: the tensor has the file's name; a quantized one is two, NAME.weight and NAME.scales.
/// Error{malformed} for everything that is damaged or another pickle.
[[nodiscard]] CheckpointIndex open_pickle(const std::filesystem::path& path);

/// True for bytes that begin as a pickle of protocol 4 that makes a NumPy array or a QuantizedWeight8bit
/// first.
[[nodiscard]] bool is_pickled_array(std::string_view head);

/// N of "tensorN_000", five digits.
[[nodiscard]] std::optional<std::uint64_t> grok_tensor_number(std::string_view file_name);

/// The folder of the pickles in a release folder: "ckpt-0" or itself. Absent: it has none.
[[nodiscard]] std::optional<std::filesystem::path> find_grok_folder(const std::filesystem::path& folder);

/// The model that the shapes of the tensors describe. Error{malformed} naming the file whose shape is
/// another.
[[nodiscard]] ModelConfig grok_config(const CheckpointIndex& checkpoint);

/// Where a tensor of the model stands: in the weights of a quantized tensor, or in a plain one.
[[nodiscard]] std::vector<Placement> grok_placements(const ModelTensor& tensor,
                                                     const ModelDescription& description);

}  // namespace sluice::format
