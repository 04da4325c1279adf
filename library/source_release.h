#pragma once
// Looks for the release that a container was made of, by the origin that the container records. Whether a
// candidate really is that release is decided by digests, not here.

#include <filesystem>
#include <optional>
#include <vector>

#include "format/json.h"
#include "library/context.h"

namespace sluice::library {

/// Candidates, the best first: folders beside the container, in the model store and among the embedded
/// releases that have the recorded name. They need not exist.
[[nodiscard]] std::vector<std::filesystem::path> list_source_releases(const std::filesystem::path& container,
                                                                      const format::Json& provenance,
                                                                      const Folders& folders);

/// The first candidate that exists.
[[nodiscard]] std::optional<std::filesystem::path> find_source_release(const std::filesystem::path& container,
                                                                       const format::Json& provenance,
                                                                       const Folders& folders);

/// For a container whose record of its origin is damaged: a folder beside it, or an embedded release, that
/// has the container's tokenizer.
[[nodiscard]] std::optional<std::filesystem::path> guess_source_release(
    const std::filesystem::path& container, const Context& context);

}  // namespace sluice::library
