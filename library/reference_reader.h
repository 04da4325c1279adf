#pragma once
// The files that state what a release should be: torrents, manifests, checksum lists. Each is read once, and
// its signature is judged over the very bytes that are then believed.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "format/manifest.h"
#include "format/release_layout.h"
#include "library/catalog.h"
#include "library/signatures.h"

namespace sluice::cli {

class StatementReader final {
 public:
  StatementReader(const std::string& key, Console& console) : judge_(key, console) {}

  /// Errors: malformed, io; untrusted as SignatureJudge says.
  [[nodiscard]] format::Manifest read_manifest(const std::filesystem::path& path);
  [[nodiscard]] std::vector<format::ManifestFile> read_sums(const std::filesystem::path& path);

  /// A torrent that has been read, by fetch.
  void take_torrent(const std::filesystem::path& path);
  /// What was read last turned out to speak of something else.
  void forget_last() { reports_.pop_back(); }

  /// The signatures of all that is used, those that are not valid first: the first says what all rests on. A
  /// torrent needs none of its own when a signed manifest names its info-hash. With a key, everything has to
  /// be signed, else Error{untrusted}.
  [[nodiscard]] std::vector<SignatureReport> conclude(const format::ReleaseLayout* layout,
                                                      const format::Manifest* manifest) const;

 private:
  SignatureJudge judge_;
  std::vector<SignatureReport> reports_;  ///< of manifests and lists
  std::optional<SignatureReport> torrent_;
};

}  // namespace sluice::cli
