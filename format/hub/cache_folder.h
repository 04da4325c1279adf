#pragma once
// The cache of huggingface_hub, where most people have their checkpoints:
//
//   models--ORG--NAME/blobs/DIGEST              the files
//   models--ORG--NAME/refs/main                 text: REV
//   models--ORG--NAME/snapshots/REV/FILE  ->  ../../blobs/DIGEST
//
// A snapshot is a release folder of links. Links that stay inside the blobs of their model are what the cache
// consists of; any other link in a release is a stranger's and is not followed.

#include <filesystem>
#include <optional>
#include <string>

namespace sluice::format {

/// The snapshot that a model's cache folder stands for: the one that refs/main names, else the only one. Any
/// other path is returned as it is. Error{usage} when the folder has several snapshots, or none.
[[nodiscard]] std::filesystem::path resolve_cache_folder(const std::filesystem::path& path);

/// The canonical path of the blobs that links of this release may lead to; nothing for a folder that is no
/// snapshot.
[[nodiscard]] std::optional<std::filesystem::path> find_cache_blobs(const std::filesystem::path& folder);

/// True when `link` leads to a regular file below `blobs`.
[[nodiscard]] bool leads_into(const std::filesystem::path& link, const std::filesystem::path& blobs);

/// NAME of the model whose snapshot this is; empty for any other path.
[[nodiscard]] std::string cached_model_name(const std::filesystem::path& folder);

}  // namespace sluice::format
