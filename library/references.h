#pragma once
// What a release folder can be proven against, as named on the command line or found around the folder.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/console.h"
#include "convert/convert.h"
#include "format/manifest.h"
#include "library/signatures.h"
#include "verify/verify.h"

namespace sluice::cli {

/// Named on the command line: then only these count.
struct ExpectationSources {
  std::string torrent;
  std::string manifest;  ///< a file, or the name of a known release
  std::string sums;      ///< SHA256SUMS or md5sum list
  std::string leaves;    ///< to a torrent, however it was found; empty: looked for beside it
  std::string key;       ///< of the only one whose signature counts; empty: the trusted keys

  [[nodiscard]] bool empty() const { return torrent.empty() && manifest.empty() && sums.empty(); }
};

struct FoundExpectations {
  std::filesystem::path folder;  ///< that verify_release looks at
  verify::Expectations expectations;
  std::filesystem::path torrent;            ///< that the layout was read from
  std::vector<std::string> found_in;        ///< the files they were read from
  std::vector<SignatureReport> signatures;  ///< of these, those that are not valid first

  [[nodiscard]] bool empty() const { return !expectations.layout && !expectations.manifest; }
  // What they say about the release; empty when they do not.
  [[nodiscard]] std::string release_name() const;
  [[nodiscard]] std::string infohash_v1() const;
  [[nodiscard]] std::string infohash_v2() const;
  [[nodiscard]] std::string licence() const;
};

/// A manifest by its file's path or its release's name. Error{usage} when it is neither.
[[nodiscard]] std::filesystem::path find_manifest_file(const std::string& name);

/// `path`: a release folder, the file of a single-file release, or one file of a release. Without `sources`
/// it looks, in this order:
///   .sluice/*.torrent beside the folder (made by fetch) and NAME.torrent beside or above, of this name
///   NAME.manifest.json beside or above; a known release of this name or torrent name, unless the
///     torrent is another one
///   only when there was neither: NAME.SHA256SUMS beside or above; SHA256SUMS, RELEASE in the folder;
///     SHA256SUMS, RELEASE above it, with names that lead into it
///   for a file of which none of these speaks: the same for the folder in which it lies
/// What is read has its signature judged first: Error{untrusted} as SignatureJudge says.
[[nodiscard]] FoundExpectations find_expectations(const std::filesystem::path& path,
                                                  const ExpectationSources& sources, Console& console);

/// Proves the release.
[[nodiscard]] verify::Report prove(const FoundExpectations& found, const verify::Options& options,
                                   base::Progress& progress, const std::stop_token& stop);

/// Writes into the request what a proven release says of its origin: names, info-hashes, digests of its
/// files.
void record_origin(const FoundExpectations& found, convert::Request& request);

}  // namespace sluice::cli
