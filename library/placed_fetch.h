#pragma once
// A fetch that knows where releases lie on this machine: it takes files that were fetched to another folder
// from there, and records where this release lies, so that no release is fetched twice.

#include <optional>
#include <string>

#include "fetch/fetch.h"
#include "library/context.h"

namespace sluice::library {

struct PlacedFetch {
  fetch::FetchRequest request;
  std::string release_name;  ///< of the known release; empty: the torrent's name
  std::string quant;         ///< of the model that follows; empty: the release is all that is wanted
};

/// fetch::fetch(). With `quant`, Error{no_space} before the download when release and model do not fit. The
/// store is optional: without its folder nothing is recorded or found.
[[nodiscard]] fetch::FetchResult fetch_to_place(PlacedFetch fetch, fetch::FetchObserver& observer,
                                                const Context& context);

}  // namespace sluice::library
