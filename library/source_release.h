#pragma once
// Where the release that a container was made of could be, by what the container says of its origin. Whether
// what is there really is the release is for its digests to tell.

#include <filesystem>
#include <optional>
#include <vector>

#include "cli/console.h"
#include "format/json.h"

namespace sluice::cli {

/// Best first: folders of its names beside the container, in the model store, and what comes with the
/// program. They need not exist.
[[nodiscard]] std::vector<std::filesystem::path> source_release_candidates(
    const std::filesystem::path& container, const format::Json& provenance);

/// The first of them that is there.
[[nodiscard]] std::optional<std::filesystem::path> find_source_release(const std::filesystem::path& container,
                                                                       const format::Json& provenance);

/// For a container that cannot say where it came from: a folder beside it, or a release that comes with the
/// program, whose tokenizer is the container's.
[[nodiscard]] std::optional<std::filesystem::path> guess_source_release(
    const std::filesystem::path& container, Console& console);

}  // namespace sluice::cli
