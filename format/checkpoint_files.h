#pragma once
// Finds out which files of a folder make a checkpoint together, from their names and first bytes.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "format/checkpoint_kind.h"

namespace sluice::format {

struct CheckpointFiles {
  CheckpointKind kind = CheckpointKind::pth;
  std::vector<std::filesystem::path> files;  ///< in the order of their numbers
  /// model.safetensors.index.json, which says what tensor lies in which file.
  std::optional<std::filesystem::path> weight_map;
  /// Why the files are no whole checkpoint, for example a missing shard; empty when they may be one.
  std::string problem;
};

/// All checkpoints in a folder, by kind and name. Files that have the name of a checkpoint and hold something
/// else are among them, so that opening them says what they are.
[[nodiscard]] std::vector<CheckpointFiles> find_checkpoints(const std::filesystem::path& folder);

/// The checkpoint to which a file belongs: alone, or with the other shards in its folder.
[[nodiscard]] CheckpointFiles checkpoint_of(const std::filesystem::path& file);

}  // namespace sluice::format
