#pragma once
// BitTorrent: gets a release by magnet link or .torrent, shares one, makes one. The only room that knows
// libtorrent; its types stay inside.
//
// Fetching works in helper processes ("workers") that are started from `worker_command`: one gets the
// metadata from peers (BEP 9) and ends; the parent checks it (names, sizes, space) and saves the .torrent;
// another fetches the payload. What a hostile peer can break is a process that is started again. The parent
// talks to them in JSON lines over pipes (fetch/job/worker_pipe.h); they die with their parent.

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

/// A magnet link taken apart (BEP 9, BEP 52 btmh). Trackers that are not usable URLs have been dropped;
/// `warnings` says which and why.
struct Magnet {
  std::optional<base::Sha1> infohash_v1;
  std::optional<base::Sha256> infohash_v2;
  std::string name;  ///< dn; may be empty
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;
  std::vector<std::string> peers;  ///< x.pe, "host:port"
  std::vector<std::string> warnings;
};

/// btih as 40 hex digits of either case or 32 base32 characters. Error{usage} when there is no usable hash.
[[nodiscard]] Magnet parse_magnet(std::string_view uri);

/// Reads a .torrent. Error{malformed} for damage and for names that are not safe (nothing is sanitised:
/// what is not clean is refused).
[[nodiscard]] format::ReleaseLayout read_torrent(const std::filesystem::path& file);
[[nodiscard]] format::ReleaseLayout parse_torrent(std::string_view content, std::string_view subject);

/// The bytes of the .torrent at an http(s) URL. The URL is the user's own word; where its server redirects to
/// must not be at a private address, unless that server is itself or `allow_private`. Errors: usage (no URL),
/// network, malformed (too large), interrupted.
[[nodiscard]] std::string download_torrent(const std::string& url, bool allow_private,
                                           const std::stop_token& stop);

constexpr std::uint64_t kMemoryBytesMin = 64u << 20;

struct FetchRequest {
  std::string source;                   ///< magnet link, or path or URL of a .torrent
  std::string torrent;                  ///< its bytes, when they are at hand already
  std::filesystem::path output_folder;  ///< DIR: makes DIR/<torrent name>/ and DIR/.sluice/
  std::vector<std::string> peers;       ///< "host:port", given by the user and so trusted
  std::vector<std::string> trackers;    ///< added to the source's
  std::vector<std::string> mirrors;     ///< http(s) URLs below which the release's files lie
  std::vector<std::string> select;      ///< globs of files; empty: all
  std::vector<std::string> exclude;
  std::uint64_t limit_down_bytes_per_s = 0;  ///< 0: none
  std::uint64_t limit_up_bytes_per_s = 0;
  bool dht = true;
  bool pex = true;
  bool lsd = true;
  bool allow_private = false;               ///< peers, trackers from the magnet may be at private addresses
  int port = 0;                             ///< 0: any
  double timeout_s = 0;                     ///< nothing arrived for so long: Error{no_peers}; 0: never
  double seed_ratio = 0;                    ///< after the download go on sharing until this ratio
  double seed_time_min = 0;                 ///< or so many minutes
  std::uint64_t memory_bytes = 512u << 20;  ///< at least kMemoryBytesMin
  std::filesystem::path cache_folder;       ///< for the DHT's nodes; empty: not kept
  bool dry_run = false;                     ///< metadata only
  std::vector<std::string> worker_command;  ///< argv prefix, e.g. {"/usr/bin/sluice", "fetch-worker"}
};

struct FetchStatus {
  std::string_view phase;  ///< "metadata", "checking", "fetching", "seeding"
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t rate_bytes_per_s = 0;  ///< from peers; while seeding, to them
  unsigned peers = 0;
  unsigned seeds = 0;
  std::optional<double> availability;  ///< copies of the rarest wanted piece among the connected peers
  std::string waiting;                 ///< why nothing arrives; empty while something does
};

/// Who shares the release.
struct Swarm {
  unsigned peers = 0;                       ///< connected
  unsigned seeds = 0;                       ///< of them complete
  std::optional<std::uint64_t> complete;    ///< as the trackers count
  std::optional<std::uint64_t> incomplete;  ///< as the trackers count
  std::optional<double> availability;       ///< as in FetchStatus
};

/// What is known before the first byte of payload is asked for.
struct Preflight {
  std::uint64_t wanted_bytes = 0;
  std::uint64_t present_bytes = 0;  ///< of them on the disk already
  std::uint64_t free_bytes = 0;
  std::string file_system;            ///< "ext4", "nfs", ...
  std::vector<std::string> warnings;  ///< about the file system
};

/// What fetch tells while it works; called from the thread that called fetch().
class FetchObserver {
 public:
  virtual ~FetchObserver() = default;
  virtual void on_layout(const format::ReleaseLayout& layout) = 0;  ///< metadata is known and checked
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
  std::uint64_t rehashed_bytes = 0;  ///< hashed because a resumed fetch had no proof for them
};

/// Errors: usage, malformed (unsafe names or metadata), no_space, io, no_peers, network, interrupted
/// (resumable).
[[nodiscard]] FetchResult fetch(const FetchRequest& request, FetchObserver& observer,
                                const std::stop_token& stop);

using ByteRange = base::ByteRange;

/// What is wrong with a file of a release; a file that is missing or cut off lacks the range up to its
/// length.
struct DamagedFile {
  std::string path;  ///< as in the ReleaseLayout
  std::vector<ByteRange> ranges;
};

struct RepairRequest {
  FetchRequest
      fetch;  ///< source: a .torrent; output_folder: where .sluice is; of no use: select, seed_ratio..
  std::filesystem::path folder;  ///< that holds the release's files; in output_folder or the same
  std::vector<DamagedFile> damage;
};

struct RepairResult {
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t written_bytes = 0;  ///< that were wrong or not there
};

/// Fetches the pieces that are damaged, and of those only the blocks of 16 KiB that are, into .sluice; when
/// all of them are proven, writes those bytes in place that differ. Whatever is right is never written, and
/// what was interrupted goes on from there. The observer is told nothing of layout or preflight. Errors: as
/// fetch().
[[nodiscard]] RepairResult repair(const RepairRequest& request, FetchObserver& observer,
                                  const std::stop_token& stop);

/// Forgets what an interrupted repair has fetched of this torrent; true when there was something.
bool discard_repair(const std::filesystem::path& output_folder, const format::ReleaseLayout& layout);

/// The body of a worker process: reads its job from stdin, writes events to stdout. Returns its exit code.
[[nodiscard]] int run_worker();

struct SeedRequest {
  std::filesystem::path torrent;
  std::filesystem::path folder;  ///< in which <torrent name> lies
  int port = 0;
  std::string listen_address;  ///< empty: all
  bool dht = true;
  bool pex = true;
  bool lsd = true;
  std::vector<std::string> trackers;
  std::uint64_t limit_up_bytes_per_s = 0;
  std::filesystem::path cache_folder;  ///< for the DHT's nodes; empty: not kept
};

class SeedObserver {
 public:
  virtual ~SeedObserver() = default;
  virtual void on_listening(int port) = 0;
  virtual void on_status(std::uint64_t uploaded_bytes, std::uint64_t rate_bytes_per_s, unsigned peers) = 0;
  virtual void on_warning(std::string_view message) = 0;
};

/// Shares until `stop` asks to end.
void seed(const SeedRequest& request, SeedObserver& observer, const std::stop_token& stop);

struct PublishRequest {
  std::filesystem::path folder;   ///< or a single file
  std::filesystem::path torrent;  ///< output; empty: <folder>.torrent beside the folder
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;
  std::uint64_t piece_bytes = 0;  ///< 0: by size
  bool v1_only = false;
  bool leaves = false;  ///< also a file of all block hashes, by which damage can be placed to 16 KiB
  unsigned thread_count = 1;
  format::Manifest facts = {};  ///< what the manifest says beside names, info-hashes, trackers and files
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

/// Deterministic: the same folder gives the same bytes for everyone. Refuses names that read_torrent would
/// refuse, symbolic links and special files. Reads every byte once.
[[nodiscard]] PublishResult publish(const PublishRequest& request, base::Progress& progress,
                                    const std::stop_token& stop);

}  // namespace sluice::fetch
