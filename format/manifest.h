#pragma once
// A release's manifest: what is known about the release, in one small JSON file (docs/manifest.md has the
// schema). Unknown facts are absent, never guessed.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "format/json.h"
#include "format/mistral_params.h"
#include "format/tensor.h"

namespace sluice::format {

constexpr std::uint64_t kManifestBytesMax = 64u << 20;

struct ManifestFile {
  std::string path;
  std::optional<std::uint64_t> length_bytes;
  std::optional<base::Md5> md5;
  std::optional<base::Sha256> sha256;
  std::optional<base::Sha256> root;  ///< BEP 52 pieces root
};

/// A tensor of the release's checkpoint, independent of the files.
struct ManifestTensor {
  std::string name;
  DType dtype = DType::bf16;
  Shape shape;
  /// merkle_digest of the values, row-major, in `dtype`; equals ContainerTensor::source_digest.
  base::Sha256 digest;

  bool operator==(const ManifestTensor&) const = default;
};

/// A .sluice file that was made from the release.
struct ManifestContainer {
  std::string name;   ///< file name
  std::string quant;  ///< "q4", "q8" or "bf16"
  base::Sha256 root;  ///< ContainerReader::root()
  /// ContainerReader::tensors_sha256(). Manifests from before container version 2 have that digest as `root`
  /// and nothing here.
  std::optional<base::Sha256> tensors_sha256 = {};

  bool operator==(const ManifestContainer&) const = default;
};

struct Manifest {
  std::string name;          ///< the NAME of `sluice run NAME`; [a-z0-9][a-z0-9._-]*
  std::string description;   ///< one line
  std::string licence;       ///< SPDX identifier
  std::string source;        ///< who released it, and where that is documented
  std::string unsupported;   ///< why Sluice cannot convert it, one line; empty when it can
  std::string torrent_name;  ///< the name of the torrent's folder
  std::optional<base::Sha1> infohash_v1;
  std::optional<base::Sha256> infohash_v2;
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;  ///< BEP 19; a file's URL is this, the torrent's name, and its path
  std::optional<std::uint64_t> tensor_count;
  std::optional<std::uint64_t> parameter_count;
  std::optional<std::uint64_t> context_tokens;  ///< the longest context that the model was trained for
  std::optional<MistralParams> params;
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;        ///< names are unique
  std::vector<ManifestContainer> containers;  ///< names are unique

  /// magnet:?xt=urn:btih:...&xt=urn:btmh:1220...&dn=...&tr=...&ws=...; empty without an info-hash.
  [[nodiscard]] std::string magnet() const;
  [[nodiscard]] const ManifestFile* find_file(std::string_view path) const;
};

/// Throws Error{malformed} naming `subject` for unknown keys, wrong types, bad digests and unsafe paths.
/// Error{usage} when reading it takes more memory than `memory_bytes_max`.
[[nodiscard]] Manifest parse_manifest(std::string_view text, std::string_view subject,
                                      std::uint64_t memory_bytes_max = kJsonMemoryBytesMax);
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& path);
[[nodiscard]] std::string to_text(const Manifest& manifest);

/// Turns any text into a manifest's name: lower case, with '-' for characters that a name cannot have.
[[nodiscard]] std::string to_release_name(std::string_view text);

/// The content of a list of checksums.
struct ChecksumList {
  std::vector<ManifestFile> files;  ///< paths are unique; with an MD5, a SHA-256 or both
  /// A digest of a kind that is not compared, such as "SHA-512".
  struct NotCompared {
    std::string algorithm;
    std::string path;
  };
  std::vector<NotCompared> not_compared;
};

/// Reads lists of checksums as sha256sum, md5sum, BSD's sha256, openssl and PowerShell write them, and
/// RELEASE texts (checksum_list.cpp has the dialects). Lines in no known dialect are ignored. In a line that
/// begins with a backslash, line ends and backslashes in names are escaped, as sha256sum does; elsewhere a
/// backslash separates folders. `own_file` is the name for a digest that stands alone; without it such a line
/// is ignored. Takes time in proportion to the text. Error{malformed} naming `subject` for unsafe names and
/// contradictions; Error{interrupted}.
[[nodiscard]] ChecksumList parse_sums(std::string_view text, std::string_view subject = "checksum list",
                                      std::string_view own_file = {}, const std::stop_token& stop = {});
/// Does the same as check_release_path() for a name in such a list, which may have backslashes and line ends.
void check_listed_path(std::string_view path, std::string_view subject);
/// The files' SHA-256 as `sha256sum` lists them, in the order of `files`.
[[nodiscard]] std::string sums_text(const std::vector<ManifestFile>& files);

}  // namespace sluice::format
