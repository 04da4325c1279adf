#pragma once
// Proves bytes: a release folder against what its torrent and manifest promise, a .sluice file against its
// own digests. What is wrong is a value in the report; only what keeps us from looking is an Error.

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

/// "ok", "damaged", ... as in the JSON report, and the report's one-character marks: = * - + ! ? ~
[[nodiscard]] std::string_view to_string(FileState state);
[[nodiscard]] char to_mark(FileState state);

/// A tensor that damage touches.
struct TouchedTensor {
  std::string name;
  std::optional<format::RowSpan> rows = {};  ///< those that are touched, where the layout tells
  // Of an expert's tensor in a .sluice file; elsewhere the name says it.
  std::optional<std::uint64_t> layer = {};
  std::optional<std::uint64_t> expert = {};
};

/// Half-open range of bytes in a file, and what lies in it, where that is known.
struct DamagedRange {
  base::ByteRange range;
  std::vector<TouchedTensor> tensors = {};
  /// What is no tensor: "zip directory", "pickle data.pkl", "padding", "section tokenizer", "footer", ...
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
  bool ok = false;  ///< everything that was promised is there and proven
  std::vector<FileReport> files;
  std::uint64_t bytes = 0;  ///< read and compared
  std::uint64_t damaged_bytes = 0;
  std::vector<std::string> proven_by;  ///< of "v1", "v2", "sha256", "md5", "container"
  /// .sluice files: the root as stated and recomputed; nothing outside the file pins it unless cli says so.
  std::string root_sha256;
};

struct Expectations {
  std::optional<format::ReleaseLayout> layout;
  std::optional<format::Manifest> manifest;  ///< its files' sizes, SHA-256, MD5 and roots
  /// Places damage to 16 KiB where the layout's hashes place it to a piece. May be null.
  std::shared_ptr<const format::LeafFile> leaves = {};
  bool only_promised = false;             ///< what else lies in the folder is not looked for
  std::set<std::string> statements = {};  ///< files of the folder that these come from: never extra
};

struct Options {
  unsigned thread_count = 1;
  std::uint64_t memory_bytes = 64u << 20;
  bool strict = false;  ///< extra and unproven files make the report not ok
  bool direct = false;  ///< read past the page cache, where the file system does that
};

/// `folder` holds the release's files (for a single-file torrent: the folder in which the file lies).
/// Files that no expectation covers are `unproven` when they are named without any digest or when there is no
/// expectation at all, else `extra`.
/// With no expectation at all, or none with a digest, the report is not ok.
[[nodiscard]] Report verify_release(const std::filesystem::path& folder, const Expectations& expectations,
                                    const Options& options, base::Progress& progress,
                                    const std::stop_token& stop);

/// What a folder holds, or a file: sizes, SHA-256 and BEP 52 roots, in a torrent's order. Links and special
/// files are Error{malformed}; what cannot be read, or changes meanwhile, is Error{io}.
[[nodiscard]] std::vector<format::ManifestFile> survey_release(const std::filesystem::path& path,
                                                               const Options& options,
                                                               base::Progress& progress,
                                                               const std::stop_token& stop);

/// Every tensor, expert, section, padding byte, the directory, the header and the root of a .sluice file.
/// Damage in header, directory and footer is told like any other; a file that is no container, is cut off or
/// contradicts itself is Error{malformed}.
[[nodiscard]] Report verify_container(const std::filesystem::path& file, const Options& options,
                                      base::Progress& progress, const std::stop_token& stop);

// The chain from a release to a container: info-hash -> file digests -> tensor digests -> root. The container
// records it; each link is compared with what is at hand, and the links for which nothing is at hand are told
// as such, never as checked.

enum class LinkState : std::uint8_t { checked, differs, unknown };

/// '=', '*' and '?', as for files.
[[nodiscard]] char to_mark(LinkState state);

struct ChainLink {
  std::string link;  ///< "release", "files", "file content", "tensors", "recipe", "root"
  LinkState state = LinkState::unknown;
  std::string detail;  ///< one line: what was compared with what, or what is missing
};

/// Somebody outside of the container who names a root.
struct RootPin {
  base::Sha256 root;
  std::string by;  ///< the manifest or signature
};

/// What is at hand.
struct ChainEvidence {
  Expectations release;          ///< of the release that the container names
  std::string source;            ///< where these were read
  std::filesystem::path folder;  ///< the release's files; empty: not at hand
  std::vector<RootPin> pins;     ///< from manifests and signatures
  bool read_files = true;        ///< false: the files are not opened, as for inspect
};

/// The container's payload is not looked at: verify_container does that. Reads the release's files once for
/// their digests and once for the tensors'.
[[nodiscard]] std::vector<ChainLink> check_chain(const format::ContainerReader& container,
                                                 const ChainEvidence& evidence, const Options& options,
                                                 base::Progress& progress, const std::stop_token& stop);

}  // namespace sluice::verify
