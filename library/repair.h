#pragma once
// verify --repair: what a report says is wrong, handed to those who can mend it.

#include <filesystem>
#include <stop_token>

#include "cli/console.h"
#include "cli/network_options.h"
#include "convert/convert.h"
#include "fetch/fetch.h"
#include "library/references.h"
#include "verify/verify.h"

namespace sluice::cli {

/// True when the report names something that could be mended.
[[nodiscard]] bool can_repair(const verify::Report& report);

/// Where only a manifest with the release's info-hash is known: gets the torrent from the swarm and puts it
/// beside the release. Error{usage} when there is no info-hash; otherwise as fetch::fetch.
void fetch_torrent(FoundExpectations& found, const NetworkOptions& network, Console& console,
                   const std::stop_token& stop);

/// Mends the release's files by its torrent, which is known. Errors as fetch::repair.
fetch::RepairResult repair_release(const FoundExpectations& found, const verify::Report& report,
                                   const NetworkOptions& network, Console& console,
                                   const std::stop_token& stop);

/// Mends a container out of the release `source`; when that is empty, the one that its provenance names.
/// Error{usage} when none is at hand; otherwise as convert::repair.
convert::RepairResult repair_container(const std::filesystem::path& container, const verify::Report& report,
                                       const std::filesystem::path& source, unsigned thread_count,
                                       Console& console, const std::stop_token& stop);

/// After a release was found whole: what an earlier repair left behind is of no use any more.
void clean_up_repair(const FoundExpectations& found);

}  // namespace sluice::cli
