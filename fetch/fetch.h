#pragma once
// BitTorrent: fetches a release by magnet link or .torrent, repairs one, shares one, and publishes one. Only
// this room uses libtorrent, and its types stay inside.
//
// A fetch works in helper processes ("workers"), which are started from `worker_command`. One gets the
// metadata from peers (BEP 9) and ends. The parent checks the metadata (names, sizes, space) and saves the
// .torrent. Another worker fetches the payload. So a hostile peer can at worst crash a process that is
// started again. The parent talks to workers in JSON lines over pipes (fetch/job/worker_pipe.h), and they end
// with their parent.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"
#include "base/progress.h"
#include "format/manifest.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// A parsed magnet link (BEP 9, BEP 52 btmh). Trackers, web seeds and peers that are not usable have been
/// dropped; `warnings` says which ones and why.
struct Magnet {
  std::optional<base::Sha1> infohash_v1;
  std::optional<base::Sha256> infohash_v2;
  std::string name;  ///< dn; may be empty
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;
  std::vector<std::string> peers;  ///< x.pe, "host:port"
  /// Indices of the wanted files in the torrent's list, pad files included; empty: all files.
  struct IndexRange {
    std::uint64_t first = 0;
    std::uint64_t last = 0;  ///< inclusive
  };
  std::vector<IndexRange> selected;  ///< so (BEP 53)
  std::vector<std::string> warnings;
};

/// A link as programs expect it, from one as people paste it: without the white space, byte order mark,
/// quotation marks and angle brackets around it, and without line ends inside. A bare info-hash (40 hex or 32
/// base32 digits of v1, 64 hex digits of v2) becomes a magnet link, a file: URL a path. Other text comes back
/// trimmed.
[[nodiscard]] std::string clean_link(std::string_view text);

/// The link in a text file, cleaned; nothing when `text` does not begin with a link. Blank lines and lines
/// that begin with '#' are skipped. Error{usage} when there are several links.
[[nodiscard]] std::optional<std::string> find_link(std::string_view text, std::string_view subject);

/// Accepts btih as 40 hex digits of either case or 32 base32 characters. Error{usage} without a usable hash.
[[nodiscard]] Magnet parse_magnet(std::string_view uri);

/// The largest .torrent that is read anywhere. 4 Mi pieces take 80 MiB in v1 and 128 MiB in v2.
constexpr std::uint64_t kTorrentBytesMax = std::uint64_t{160} << 20;

/// Reads a .torrent. Error{malformed} for damage and for unsafe names. What careless makers write is
/// corrected, and the layout's warnings say so (docs/fetch.md).
[[nodiscard]] format::ReleaseLayout read_torrent(const std::filesystem::path& file);
[[nodiscard]] format::ReleaseLayout parse_torrent(std::string_view content, std::string_view subject);

constexpr std::uint64_t kMemoryBytesMin = 64u << 20;

struct FetchRequest {
  std::string source;                   ///< magnet link, or path or URL of a .torrent
  std::string torrent;                  ///< the bytes of the .torrent when the caller has them already
  std::filesystem::path output_folder;  ///< DIR: the fetch creates DIR/<torrent name>/ and DIR/.sluice/
  std::vector<std::string> peers;       ///< "host:port"; named by the user and so trusted
  std::vector<std::string> trackers;    ///< added to the source's
  std::vector<std::string> mirrors;     ///< http(s) URLs of folders with the release's files
  std::vector<std::string> select;      ///< globs of wanted files; empty: all files
  std::vector<std::string> exclude;
  std::uint64_t limit_down_bytes_per_s = 0;  ///< 0: no limit
  std::uint64_t limit_up_bytes_per_s = 0;
  bool dht = true;
  bool pex = true;
  bool lsd = true;
  bool allow_private = false;  ///< peers and servers that the release names may be at private addresses
  int port = 0;                ///< 0: any
  double timeout_s = 0;        ///< Error{no_peers} when nothing arrives for so long; 0: never
  double seed_ratio = 0;       ///< share after the download until this ratio ...
  double seed_time_min = 0;    ///< ... or for so many minutes
  std::uint64_t memory_bytes = 512u << 20;  ///< at least kMemoryBytesMin
  std::filesystem::path cache_folder;       ///< keeps the DHT's nodes; empty: they are not kept
  bool dry_run = false;                     ///< gets the metadata only
  bool overwrite = false;  ///< replace files that are not the release's; otherwise Error{usage}
  bool recheck = false;    ///< hash all that is on the disk, whatever the journal says
  std::vector<std::string> worker_command;  ///< argv prefix, e.g. {"/usr/bin/sluice", "fetch-worker"}
};

/// Downloads the .torrent at the http(s) URL `request.source`, of which allow_private, timeout_s (for the
/// whole download) and memory_bytes matter. The user named the URL, so it may be at a private address; a
/// redirect may lead to a private address only if the URL itself is at one, or with allow_private. Errors:
/// usage (not a URL, or larger than can be read in that memory), network, no_peers (timeout), malformed (too
/// large), interrupted.
[[nodiscard]] std::string download_torrent(const FetchRequest& request, const std::stop_token& stop);

struct FetchStatus {
  std::string_view phase;  ///< "metadata", "checking", "fetching", "seeding"
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t rate_bytes_per_s = 0;  ///< from peers; while seeding, to them
  unsigned peers = 0;
  unsigned seeds = 0;
  std::optional<double> availability;  ///< copies of the rarest wanted piece among the connected peers
  std::string stall_reason;            ///< why nothing arrives; empty while bytes arrive
};

/// The peers that share the release.
struct Swarm {
  unsigned peers = 0;                       ///< connected
  unsigned seeds = 0;                       ///< connected peers that have the whole release
  std::optional<std::uint64_t> complete;    ///< peers with the whole release, as the trackers count
  std::optional<std::uint64_t> incomplete;  ///< other peers, as the trackers count
  std::optional<double> availability;       ///< as in FetchStatus
};

/// The state of the disk before the first byte of payload is requested.
struct Preflight {
  std::filesystem::path folder;  ///< the output folder, absolute
  std::uint64_t wanted_bytes = 0;
  std::uint64_t present_bytes = 0;  ///< wanted bytes that are on the disk already
  std::uint64_t free_bytes = 0;
  std::string file_system;            ///< "ext4", "nfs", ...
  std::vector<std::string> warnings;  ///< about the file system
};

/// Receives reports of a fetch. The functions are called by the thread that called fetch().
class FetchObserver {
 public:
  virtual ~FetchObserver() = default;
  virtual void on_layout(const format::ReleaseLayout& layout) = 0;  ///< the metadata is known and checked
  virtual void on_preflight(const Preflight& preflight) { static_cast<void>(preflight); }
  virtual void on_swarm(const Swarm& swarm) { static_cast<void>(swarm); }  ///< once, when peers are known
  virtual void on_status(const FetchStatus& status) = 0;
  virtual void on_warning(std::string_view message) = 0;
};

struct FetchResult {
  std::filesystem::path path;     ///< DIR/<torrent name>
  std::filesystem::path torrent;  ///< the saved .torrent
  format::ReleaseLayout layout;
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t rehashed_bytes = 0;  ///< hashed on the disk because the journal did not prove them
  std::uint64_t file_count = 0;      ///< without pad files
  // Of the wanted files:
  std::uint64_t wanted_files = 0;
  std::uint64_t wanted_bytes = 0;
  std::uint64_t wanted_pieces = 0;
  std::uint64_t adopted_bytes = 0;   ///< were on the disk, not in the journal, and verify
  std::uint64_t believed_bytes = 0;  ///< proven by an earlier run's record, and not hashed now
  std::uint64_t believed_pieces = 0;
};

/// Writes to no file that is not the release's (fetch/existing_files.h): Error{usage} unless `overwrite`.
/// Other errors: usage, malformed (unsafe names or metadata), no_space, io, no_peers, network, interrupted
/// (resumable).
[[nodiscard]] FetchResult fetch(const FetchRequest& request, FetchObserver& observer,
                                const std::stop_token& stop);

/// The damage in a file of a release. A file that is missing or too short lacks the range up to its length.
struct DamagedFile {
  std::string path;  ///< as in the ReleaseLayout
  std::vector<base::ByteRange> ranges;
};

struct RepairRequest {
  /// `source` is a .torrent and `output_folder` the parent of .sluice; select, exclude and seeding are
  /// ignored.
  FetchRequest fetch;
  std::filesystem::path folder;  ///< holds the release's files; output_folder or a folder in it
  std::vector<DamagedFile> damage;
};

struct RepairResult {
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t written_bytes = 0;  ///< bytes that were wrong or missing
};

/// Fetches the damaged blocks of 16 KiB into .sluice. When all damaged pieces are verified, writes the
/// differing bytes in place. Correct bytes are never written, and an interrupted repair continues where it
/// stopped. on_layout and on_preflight are not called. Errors: as fetch().
[[nodiscard]] RepairResult repair(const RepairRequest& request, FetchObserver& observer,
                                  const std::stop_token& stop);

/// Removes what an interrupted repair has fetched of this torrent. Returns whether there was anything.
bool discard_repair(const std::filesystem::path& output_folder, const format::ReleaseLayout& layout);

/// "2.0.8.0"
[[nodiscard]] std::string libtorrent_version();

/// The body of a worker process: reads its job from stdin and writes events to stdout. Returns the exit code.
[[nodiscard]] int run_worker();

struct SeedRequest {
  std::filesystem::path torrent;
  std::filesystem::path folder;    ///< contains <torrent name>
  int port = 0;                    ///< 0: any
  bool any_port_if_taken = false;  ///< with a warning, when another program listens on `port`
  std::string listen_address;      ///< empty: all addresses
  bool dht = true;
  bool pex = true;
  bool lsd = true;
  std::vector<std::string> trackers;
  std::uint64_t limit_up_bytes_per_s = 0;
  std::filesystem::path cache_folder;  ///< keeps the DHT's nodes; empty: they are not kept
};

class SeedObserver {
 public:
  virtual ~SeedObserver() = default;
  virtual void on_listening(int port) = 0;
  virtual void on_status(std::uint64_t uploaded_bytes, std::uint64_t rate_bytes_per_s, unsigned peers) = 0;
  virtual void on_warning(std::string_view message) = 0;
};

/// Shares a release until a stop is requested. Errors: malformed, incomplete (a file is missing or has
/// another length), io.
void seed(const SeedRequest& request, SeedObserver& observer, const std::stop_token& stop);

struct PublishRequest {
  std::filesystem::path folder;   ///< a folder or a single file
  std::filesystem::path torrent;  ///< output; empty: <folder>.torrent beside the folder; a folder: in it
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;
  std::uint64_t piece_bytes = 0;  ///< 0: chosen by the size of the release
  bool v1_only = false;
  bool leaves = false;     ///< also write a file of all block hashes, which locates damage to 16 KiB
  bool overwrite = false;  ///< replace files that another command made, or that say something else
  unsigned thread_count = 1;
  format::Manifest facts = {};  ///< fields of the manifest other than names, info-hashes, trackers and files
};

struct PublishResult {
  std::filesystem::path torrent;
  std::filesystem::path manifest_path;
  std::filesystem::path sums;    ///< SHA256SUMS of the files
  std::filesystem::path leaves;  ///< format/leaf_file.h; empty when not asked for
  std::string magnet;
  format::ReleaseLayout layout;
  format::Manifest manifest;
};

/// The files that publish() would write. Error{usage} for an output that is, or lies in, what is published;
/// for one that is not a regular file; and, without PublishRequest::overwrite, for one that is neither a
/// torrent of this name nor a manifest, checksum list or leaf file. Reads no byte of the release.
struct PublishOutputs {
  std::filesystem::path torrent;
  std::filesystem::path manifest;
  std::filesystem::path sums;
  std::filesystem::path leaves;  ///< empty when not asked for
};
[[nodiscard]] PublishOutputs choose_outputs(const PublishRequest& request);

/// Deterministic: the same folder gives everyone the same bytes. Refuses symbolic links, special files, and
/// names that read_torrent would refuse. Reads every byte once. Files that hold the same content already stay
/// as they are; others are replaced only with PublishRequest::overwrite, else Error{usage} and nothing is
/// written.
[[nodiscard]] PublishResult publish(const PublishRequest& request, base::Progress& progress,
                                    const std::stop_token& stop);

}  // namespace sluice::fetch
