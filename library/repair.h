#pragma once
// Repairs: hands the damage that a report names to the room that can write those bytes anew. fetch repairs
// the files of a release, convert repairs a container.

#include <cstdint>
#include <filesystem>

#include "fetch/fetch.h"
#include "library/context.h"
#include "library/references.h"
#include "verify/verify.h"

namespace sluice::library {

/// True when the report names a damaged or missing file.
[[nodiscard]] bool can_repair(const verify::Report& report);

/// For a release of which only a manifest with its info-hash is known: gets the torrent from the swarm, saves
/// it beside the release and adds it to the references. Error{usage} when there is no info-hash; otherwise as
/// fetch::fetch. `network`: peers, limits and worker command.
void fetch_torrent(References& references, const fetch::FetchRequest& network, const Context& context);

/// Repairs the release's files by references.expected.layout, which must be there. Errors as fetch::repair.
[[nodiscard]] fetch::RepairResult repair_files(const References& references, const verify::Report& report,
                                               const fetch::FetchRequest& network, const Context& context);

/// Repairs a container from the release that it was made of: `release`, or when that is empty the one that
/// its provenance names. Returns the bytes that differed. Error{usage} when no release is at hand; otherwise
/// as convert::repair.
[[nodiscard]] std::uint64_t repair_container(const std::filesystem::path& container,
                                             const verify::Report& report,
                                             const std::filesystem::path& release, unsigned thread_count,
                                             const Context& context);

/// Removes what an interrupted repair has left of a release that is whole now.
void discard_repair(const References& references);

}  // namespace sluice::library
