#pragma once
// References: the files that say what a release should be (torrent, manifest, checksum list, leaf hashes),
// named by the user or found around the release.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "library/context.h"
#include "library/signature_report.h"
#include "verify/verify.h"

namespace sluice::library {

/// References that the user names. When there is one, nothing else is looked for.
struct NamedReferences {
  std::string torrent;
  std::string manifest;  ///< a file, or the name of a known release
  std::string sums;      ///< SHA256SUMS or md5sum list
  std::string leaves;    ///< leaf hashes for a torrent, named or found; empty: looked for beside the torrent
  std::string key;       ///< the only key whose signature counts; empty: the trusted keys

  [[nodiscard]] bool empty() const { return torrent.empty() && manifest.empty() && sums.empty(); }
};

struct References {
  std::filesystem::path folder;  ///< holds the files that `expected` speaks of
  verify::Expectations expected;
  std::filesystem::path torrent;            ///< the file of expected.layout
  std::vector<std::string> found_in;        ///< the files of all references
  std::vector<SignatureReport> signatures;  ///< their signatures, those that are not valid first
  /// What is wrong with files that look like references of this release and could not be used.
  std::vector<std::string> unusable;

  [[nodiscard]] bool empty() const { return !expected.layout && !expected.manifest; }
  // The references say these facts about the release; a member is empty when they do not say it.
  [[nodiscard]] std::string release_name() const;
  [[nodiscard]] std::string infohash_v1() const;
  [[nodiscard]] std::string infohash_v2() const;
  [[nodiscard]] std::string licence() const;
};

/// Finds the references of `path`: a release folder, the file of a single-file release, or one file of a
/// release. Without named references it looks, in this order:
///   .sluice/*.torrent beside the folder (made by fetch) and NAME.torrent beside or above, of this name
///   NAME.manifest.json beside or above; a known release of this name or torrent name, unless the
///     torrent is another one
///   only when there was neither: lists of checksums (list_names.h) of the release's name beside or above;
///   lists
///     in the folder; lists beside or above it, with names that lead into it
///   for a file that none of these names: the same for the folder in which it lies
/// Of several torrents of this name, one whose fetch has left a journal comes first, then the one that most
/// of the files fit. A file that is found and cannot be read is a warning, and the search goes on. Each
/// reference's signature is verified before the reference counts: Error{untrusted} as SignatureVerifier says.
/// Other errors of named references: malformed, io, usage; Error{interrupted}.
[[nodiscard]] References find_references(const std::filesystem::path& path, const NamedReferences& named,
                                         const Context& context);

}  // namespace sluice::library
