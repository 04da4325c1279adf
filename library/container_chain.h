#pragma once
// The chain from a release to a .sluice file: info-hash, file digests, tensor digests, root. The container
// records it; each link is compared with the release and the references that are at hand.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "library/context.h"
#include "library/references.h"
#include "verify/verify.h"

namespace sluice::library {

enum class ReleaseFiles : std::uint8_t { read, leave_closed };

/// Finds the release that the container names: by the named references, beside the container, in the model
/// store or among the known releases. Links for which nothing is at hand are LinkState::unknown.
[[nodiscard]] std::vector<verify::ChainLink> check_chain(const std::filesystem::path& container,
                                                         const NamedReferences& named, ReleaseFiles files,
                                                         const verify::Options& options,
                                                         const Context& context);

/// True when the named references list the container itself, as a file of a release, instead of the release
/// that it was made from.
[[nodiscard]] bool names_container(const NamedReferences& named, const std::filesystem::path& container,
                                   const Context& context);

/// True when a link was compared and is different.
[[nodiscard]] bool differs(const std::vector<verify::ChainLink>& chain);

}  // namespace sluice::library
