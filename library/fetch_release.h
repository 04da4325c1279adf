#pragma once
// fetch SOURCE: decides which torrent the user means and who vouches for it, before the first byte is asked
// for.

#include <optional>
#include <string>

#include "fetch/fetch.h"
#include "format/manifest.h"
#include "library/context.h"
#include "library/signature_report.h"
#include "library/source.h"

namespace sluice::library {

struct FetchReleaseRequest {
  std::string source;         ///< magnet link, path or URL of a .torrent, or the name of a known release
  std::string manifest;       ///< a file, or the name of a known release; empty: looked for
  std::string key;            ///< the only key whose signature counts; empty: the trusted keys
  fetch::FetchRequest fetch;  ///< all but its source
};

struct FetchedRelease {
  fetch::FetchResult result;
  std::optional<SignatureReport> signature;  ///< of the manifest or the torrent, when there is one
};

/// Verifies the signatures of the manifest and the torrent, then fetches. A torrent that the manifest does
/// not name is refused as soon as its metadata is known: Error{verification}. Error{untrusted} as
/// SignatureVerifier says, and when a key is given but nothing is signed; otherwise as find_source and
/// fetch::fetch.
[[nodiscard]] FetchedRelease fetch_release(const FetchReleaseRequest& request, const Context& context);

}  // namespace sluice::library
