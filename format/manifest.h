#pragma once
// A release's manifest: what is known about it, in one small JSON file (docs/manifest.md has the schema).
// Everything that is not known is absent, never guessed.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "format/json.h"
#include "format/model_params.h"

namespace sluice::format {

struct ManifestFile {
  std::string path;
  std::optional<std::uint64_t> length_bytes;
  std::optional<base::Md5> md5;
  std::optional<base::Sha256> sha256;
  std::optional<base::Sha256> root;  ///< BEP 52 pieces root
};

struct Manifest {
  std::string name;         ///< what `sluice run NAME` calls it; [a-z0-9][a-z0-9._-]*
  std::string description;  ///< one line
  std::string licence;      ///< SPDX identifier
  std::string source;       ///< who released it and where that is written down
  std::string torrent_name;  ///< the folder that the torrent makes
  std::optional<base::Sha1> infohash_v1;
  std::optional<base::Sha256> infohash_v2;
  std::vector<std::string> trackers;
  std::optional<std::uint64_t> tensor_count;
  std::optional<std::uint64_t> parameter_count;
  std::optional<ModelParams> params;
  std::vector<ManifestFile> files;

  /// magnet:?xt=urn:btih:...&xt=urn:btmh:1220...&dn=...&tr=...; empty without an info-hash.
  [[nodiscard]] std::string magnet() const;
  [[nodiscard]] const ManifestFile* find_file(std::string_view path) const;
};

/// Throws Error{malformed} naming `subject` for unknown keys, wrong types, bad digests and unsafe paths.
[[nodiscard]] Manifest parse_manifest(std::string_view text, std::string_view subject);
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& path);
[[nodiscard]] std::string to_text(const Manifest& manifest);

/// SHA256SUMS and md5sum lists ("<hex>  path", "<hex> *path"), and RELEASE texts, in which only lines that
/// hold "<32 or 64 hex>  name" count, whatever stands around them. Only digests are filled in.
[[nodiscard]] std::vector<ManifestFile> parse_sums(std::string_view text);

}  // namespace sluice::format
