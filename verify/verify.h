#pragma once
// Verifies bytes by their digests: a release folder against its torrent and manifest, a .sluice file against
// its own digests. Damage is a value in the report; only a failure that prevents the verification is an
// Error.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"
#include "base/progress.h"
#include "format/checkpoint_map.h"
#include "format/container_reader.h"
#include "format/leaf_file.h"
#include "format/manifest.h"
#include "format/release_layout.h"

namespace sluice::verify {

enum class FileState : std::uint8_t { ok, damaged, missing, extra, unreadable, unproven, changed };

/// The name of a state in the JSON report ("ok", "damaged", ...), and its mark in the text report: = * - + !
/// ? ~
[[nodiscard]] std::string_view to_string(FileState state);
[[nodiscard]] char to_mark(FileState state);

/// A tensor that has damaged bytes.
struct TouchedTensor {
  std::string name;
  std::optional<format::RowSpan> rows = {};  ///< the damaged ones, when the layout tells
  // Set for the tensors of an expert in a .sluice file; in checkpoints the name tells.
  std::optional<std::uint64_t> layer = {};
  std::optional<std::uint64_t> expert = {};
};

/// A damaged range of a file, and what lies in it when that is known.
struct DamagedRange {
  base::ByteRange range;
  std::vector<TouchedTensor> tensors = {};
  /// Parts that are not tensors: "zip directory", "pickle data.pkl", "padding", "section tokenizer",
  /// "footer", ...
  std::vector<std::string> parts = {};
};

struct FileReport {
  std::string path;  ///< below the release folder, with '/'
  FileState state = FileState::ok;
  std::uint64_t bytes = 0;  ///< size on disk
  std::string problem;      ///< one sentence for states other than ok: expected and found
  std::vector<DamagedRange> damaged;
};

struct Report {
  bool ok = false;  ///< every expected file exists and matches its digests
  std::vector<FileReport> files;
  std::uint64_t bytes = 0;  ///< read and compared
  std::uint64_t damaged_bytes = 0;
  std::vector<std::string> proven_by;  ///< digests compared: "v1", "v2", "sha256", "md5", "container"
  /// Only for a .sluice file: the digests of all that decides what is computed, and of its weights alone.
  /// They show that the file is consistent; only a signature or manifest (RootPin) shows that it is the right
  /// file.
  std::string root_sha256;
  std::string tensors_sha256;
};

/// The references of a release (torrent, manifest, leaf file) say that its files should be as in here.
struct Expectations {
  std::optional<format::ReleaseLayout> layout;
  std::optional<format::Manifest> manifest;  ///< its files' sizes, SHA-256, MD5 and roots
  /// Locates damage to 16 KiB when the layout's hashes only locate it to a piece. May be null.
  std::shared_ptr<const format::LeafFile> leaves = {};
  bool only_expected = false;                  ///< do not search the folder for extra files
  std::set<std::string> reference_files = {};  ///< files of the folder that hold the references: never extra
};

struct Options {
  unsigned thread_count = 1;
  std::uint64_t memory_bytes = 64u << 20;
  bool strict = false;  ///< with extra or unproven files, the report is not ok
  bool direct = false;  ///< bypass the page cache, where the file system supports that
};

/// `folder` holds the release's files; for a single-file torrent it is the folder in which the file lies. A
/// file that is listed without a digest is `unproven`; one that is not listed is `extra`, or `unproven` when
/// nothing is listed at all. When no digest could be compared, the report is not ok.
[[nodiscard]] Report verify_release(const std::filesystem::path& folder, const Expectations& expectations,
                                    const Options& options, base::Progress& progress,
                                    const std::stop_token& stop);

/// Sizes, SHA-256 and BEP 52 roots of one file, or of the files of a folder in the order of a torrent.
/// Symbolic links and special files are Error{malformed}; a file that cannot be read or changes meanwhile is
/// Error{io}.
[[nodiscard]] std::vector<format::ManifestFile> hash_release(const std::filesystem::path& path,
                                                             const Options& options, base::Progress& progress,
                                                             const std::stop_token& stop);

/// Verifies every tensor, section and padding byte, the directory, the header and the root of a .sluice file.
/// Damage in header, directory and footer is reported like any other; a file that is not a container, is cut
/// off or contradicts itself is Error{malformed}.
[[nodiscard]] Report verify_container(const std::filesystem::path& file, const Options& options,
                                      base::Progress& progress, const std::stop_token& stop);

// The chain from a release to a container: info-hash -> file digests -> tensor digests -> root. The container
// records it. Each link is compared with the references and files that are available; a link without any is
// `unknown`.

enum class LinkState : std::uint8_t { checked, differs, unknown };

/// The mark of a link in the text report: = * ?
[[nodiscard]] char to_mark(LinkState state);

struct ChainLink {
  /// "release", "files", "file content", "tensors", "kept tensors", "tokenizer", "chat files", "parameters",
  /// "recipe", "root"
  std::string link;
  LinkState state = LinkState::unknown;
  std::string detail;  ///< one line that says what was compared, or what is missing
};

/// A root that a manifest names: the container with this root is the right one.
struct RootPin {
  base::Sha256 root;
  std::string by;  ///< the manifest
};

/// What a named root fixes of a container. Roots that were published for containers of version 1 are digests
/// of the tensors alone.
enum class PinCoverage : std::uint8_t { nothing, weights, everything };

/// Compares a named root with the digests of a container (format::ContainerReader).
[[nodiscard]] PinCoverage compare_pin(const base::Sha256& named, const base::Sha256& root,
                                      const base::Sha256& tensors_sha256);

/// What to say of PinCoverage::weights, behind the name of the manifest or root.
constexpr std::string_view kPinsWeightsOnly =
    "pins the weights only; model parameters and tokenizer are not pinned";

/// The references and files that the links of a chain are compared with.
struct ChainInputs {
  Expectations release;          ///< about the release that the container names
  std::string source;            ///< the file that they were read from
  std::filesystem::path folder;  ///< the release's files; empty when they are not available
  std::vector<RootPin> pins;     ///< from manifests and signatures
  bool read_files = true;        ///< false: compare only what is recorded, as inspect does
};

/// Compares the links. Does not verify the container's payload: verify_container() does. Reads the release's
/// files once for their digests and once for those of their tensors, and the container's tensors in mx4.
[[nodiscard]] std::vector<ChainLink> check_chain(const format::ContainerReader& container,
                                                 const ChainInputs& inputs, const Options& options,
                                                 base::Progress& progress, const std::stop_token& stop);

}  // namespace sluice::verify
