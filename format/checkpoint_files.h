#pragma once
// Which files of a folder make a checkpoint together, as their names and first bytes say.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace sluice::format {

struct CheckpointFiles {
  std::string kind;                          ///< "pth", "safetensors" or "gguf"
  std::vector<std::filesystem::path> files;  ///< in the order of their numbers
  /// model.safetensors.index.json, which says what tensor lies in which file.
  std::optional<std::filesystem::path> weight_map;
  std::string problem;  ///< why they are no whole checkpoint: a shard is missing, say; empty when they may be
};

/// All in a folder, by name. Files that are named like a checkpoint and hold something else are among them,
/// so that opening them tells what they are.
[[nodiscard]] std::vector<CheckpointFiles> find_checkpoints(const std::filesystem::path& folder);

/// The checkpoint that a file is of: alone, or with the shards beside it.
[[nodiscard]] CheckpointFiles checkpoint_of(const std::filesystem::path& file);

/// By its first bytes. They do not tell whether it is a good one.
[[nodiscard]] bool is_checkpoint(const std::filesystem::path& file);

/// The first bytes of a file, as many as it takes to recognise it.
[[nodiscard]] std::string read_head(const base::File& file);
[[nodiscard]] bool is_zip(std::string_view head);
[[nodiscard]] bool is_gguf(std::string_view head);
/// safetensors has no magic: a length that can be, and JSON behind it.
[[nodiscard]] bool looks_like_safetensors(std::string_view head);
/// What people have in the place of a checkpoint: "is a web page, not a checkpoint: ..."; empty when nothing
/// is recognised.
[[nodiscard]] std::string_view describe_lookalike(std::string_view head);

}  // namespace sluice::format
