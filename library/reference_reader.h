#pragma once
// Reads references and verifies their signatures. What is returned was parsed from the very bytes that the
// signature covers, even when the file changes meanwhile.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "format/manifest.h"
#include "format/release_layout.h"
#include "library/signature_verifier.h"

namespace sluice::library {

/// Enough for any manifest that is no attack: one of 64 MiB whose text is names and digests.
constexpr std::uint64_t kManifestMemoryBytes = std::uint64_t{1} << 30;

class ReferenceReader final {
 public:
  /// `key`: the only key whose signature counts; empty: the trusted keys.
  ReferenceReader(const std::string& key, const Context& context) : verifier_(key, context) {}

  /// Errors: malformed, io; untrusted as SignatureVerifier says.
  /// `memory_bytes`: --memory of a command that bounds all of its memory; Error{usage}, which says how much
  /// is enough, when reading the manifest takes more.
  [[nodiscard]] format::Manifest read_manifest(const std::filesystem::path& path,
                                               std::uint64_t memory_bytes = kManifestMemoryBytes);
  [[nodiscard]] std::vector<format::ManifestFile> read_sums(const std::filesystem::path& path);

  /// A torrent's layout. When `wanted` is false for it, the torrent is not a reference, its signature is not
  /// verified, and nothing is returned.
  [[nodiscard]] std::optional<format::ReleaseLayout> read_torrent(
      const std::filesystem::path& path,
      const std::function<bool(const format::ReleaseLayout&)>& wanted = {});
  /// Verifies a torrent's signature without parsing the torrent, which fetch does within --memory. Returns
  /// the bytes that were signed; empty when there is no signature.
  std::string verify_torrent(const std::filesystem::path& path);
  /// The manifest or list that was read last belongs to another release: its signature does not count.
  void forget_last() { reports_.pop_back(); }

  /// The signatures of all references in use, those that are not valid first, so that the first tells how
  /// much the references are worth together. A torrent needs no signature of its own when a signed manifest
  /// names its info-hash. With a key, everything must be signed, else Error{untrusted}.
  [[nodiscard]] std::vector<SignatureReport> conclude(const format::ReleaseLayout* layout,
                                                      const format::Manifest* manifest) const;

 private:
  SignatureVerifier verifier_;
  std::vector<SignatureReport> reports_;  ///< signatures of manifests and lists
  std::optional<SignatureReport> torrent_;
};

}  // namespace sluice::library
