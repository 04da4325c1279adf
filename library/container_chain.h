#pragma once
// The chain from a release to a .sluice file, for verify and inspect: looks for what is at hand, and tells
// the links.

#include <filesystem>
#include <vector>

#include "cli/commands.h"
#include "format/json.h"
#include "library/references.h"
#include "verify/verify.h"

namespace sluice::cli {

/// Finds the release that the container names: as said by `sources`, or beside the container, in the model
/// store or among the known releases. `read_files` false: its files are not opened.
[[nodiscard]] std::vector<verify::ChainLink> check_chain(const std::filesystem::path& container,
                                                         const ExpectationSources& sources, bool read_files,
                                                         const verify::Options& options,
                                                         const Invocation& invocation);

/// True when torrent, manifest or sums named on the command line speak of the container itself, as a file of
/// a release, and not of the release that it was made from.
[[nodiscard]] bool speaks_of(const std::filesystem::path& container, const ExpectationSources& sources,
                             Console& console);

[[nodiscard]] bool differs(const std::vector<verify::ChainLink>& chain);

/// "= release: stories-moe, infohash_v1 ..: as in ..", one line a link.
void print_chain(const std::vector<verify::ChainLink>& chain, Console& console);
/// [{"link":..,"state":"=","detail":..}]
[[nodiscard]] format::Json chain_json(const std::vector<verify::ChainLink>& chain);

}  // namespace sluice::cli
