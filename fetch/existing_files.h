#pragma once
// What lies in the output folder under the names of a release's files before a fetch writes there: an earlier
// fetch of the same torrent, a copy or a partial download of another client, another torrent's release, or
// files that have nothing to do with it (docs/decisions/0019).

#include <cstddef>
#include <stop_token>
#include <vector>

#include "fetch/fetch.h"
#include "fetch/job/memory_budget.h"
#include "fetch/output_folder.h"
#include "format/release_layout.h"

namespace sluice::fetch {

struct ExistingFilesRequest {
  const OutputFolder& folder;
  const format::ReleaseLayout& layout;
  const std::vector<bool>& wanted;  ///< one flag per file
  bool overwrite = false;           ///< replace what would be refused
  TorrentLimits limits = {};        ///< for reading other releases' torrents
};

/// Refuses a fetch that would write over files that are not the release's: Error{usage} names the first, and
/// nothing has been written then. With `overwrite` such files are removed or given up to the fetch, with a
/// warning each. Returns the unwanted files that must not be touched; what the fetch needs of their pieces
/// belongs to the parts. Reads only files that the journal does not prove. Error{interrupted}, Error{io}.
[[nodiscard]] std::vector<std::size_t> check_existing_files(const ExistingFilesRequest& request,
                                                            FetchObserver& observer,
                                                            const std::stop_token& stop);

}  // namespace sluice::fetch
