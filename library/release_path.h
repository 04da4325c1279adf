#pragma once
// Paths as people write them: ".", "dir/", a file or a folder.

#include <filesystem>
#include <string>

#include "base/output.h"

namespace sluice::library {

/// The name of the folder or file, also for "." and "dir/".
[[nodiscard]] std::string own_name(const std::filesystem::path& path);

/// The absolute path of the folder in which `path` lies.
[[nodiscard]] std::filesystem::path parent_of(const std::filesystem::path& path);

/// True for an existing path that is not a folder. A path that does not exist counts as a folder: a release
/// that was not fetched yet can have its torrent or manifest beside that place.
[[nodiscard]] bool is_one_file(const std::filesystem::path& path);

/// True for a file with the extension or the marks of a container, so that opening it says what is wrong with
/// it.
[[nodiscard]] bool is_container_file(const std::filesystem::path& path);

/// The files that a command reads when this path is its input: all of a folder but containers, or a
/// checkpoint file with the other files of its release beside it (its shards, parameters, tokenizer).
[[nodiscard]] base::InputFiles input_files(const std::filesystem::path& path);

}  // namespace sluice::library
