#pragma once
// Reads references and verifies their signatures. What is returned was parsed from the very bytes that the
// signature covers, even when the file changes meanwhile.

#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
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
  ReferenceReader(const std::string& key, const Context& context)
      : verifier_(key, context), stop_(context.stop) {}

  /// Errors: malformed, io; untrusted as SignatureVerifier says.
  /// `memory_bytes`: --memory of a command that bounds all of its memory; Error{usage}, which says how much
  /// is enough, when reading the manifest takes more.
  [[nodiscard]] format::Manifest read_manifest(const std::filesystem::path& path,
                                               std::uint64_t memory_bytes = kManifestMemoryBytes);
  /// A list's entries. When `wanted` is false for them, the list is not a reference, and its signature is not
  /// verified.
  [[nodiscard]] format::ChecksumList read_sums(
      const std::filesystem::path& path, const std::function<bool(const format::ChecksumList&)>& wanted = {});

  [[nodiscard]] format::ReleaseLayout read_torrent(const std::filesystem::path& path);
  /// Verifies the signature of a torrent that was parsed already, because only its content says whether it is
  /// a reference. Returns the layout of the signed bytes, or `parsed` when there is no signature.
  [[nodiscard]] format::ReleaseLayout take_torrent(const std::filesystem::path& path,
                                                   format::ReleaseLayout parsed);
  /// Verifies a torrent's signature without parsing the torrent, which fetch does within --memory. Returns
  /// the bytes that were signed; empty when there is no signature.
  std::string verify_torrent(const std::filesystem::path& path);
  /// The manifest that was read last belongs to another release: its signature does not count.
  void forget_last() { reports_.pop_back(); }

  /// The signatures of all references in use, those that are not valid first, so that the first tells how
  /// much the references are worth together. A torrent needs no signature of its own when a signed manifest
  /// names its info-hash. With a key, everything must be signed, else Error{untrusted}.
  [[nodiscard]] std::vector<SignatureReport> conclude(const format::ReleaseLayout* layout,
                                                      const format::Manifest* manifest) const;

 private:
  SignatureVerifier verifier_;
  std::stop_token stop_;
  std::vector<SignatureReport> reports_;  ///< signatures of manifests and lists
  std::optional<SignatureReport> torrent_;
};

}  // namespace sluice::library
