#pragma once
// Finds the release that a container was made of, when it is at hand.

#include <filesystem>
#include <optional>

#include "cli/console.h"
#include "format/json.h"

namespace sluice::cli {

/// By what the container's provenance says: the release that comes with the program, the model store's, or a
/// folder of its name beside the container. Nothing when there is none. Whether it really is the release is
/// for its digests to tell.
[[nodiscard]] std::optional<std::filesystem::path> find_source_release(
    const format::Json& provenance, const std::filesystem::path& container);

}  // namespace sluice::cli
