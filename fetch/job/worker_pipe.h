#pragma once
// The protocol between fetch() and its worker processes, over pipes: one JSON object per line. The parent
// sends a job, and later perhaps the line "stop". The worker sends events:
//
//   {"event":"status","phase":..,"done":..,"total":..,"rate":..,"peers":..,"seeds":..,"downloaded":..,
//    "rehashed":..,"proven":..,"unproven":..}          fetch/arrival_watch.h says what the last two are for
//       optional: "adopted", "believed", "believed_pieces" once the disk is checked (FetchResult);
//       "availability" (copies of the rarest wanted piece); "complete", "incomplete" (of trackers)
//   {"event":"warning","message":..}                 for the user
//   {"event":"tracker","url":..,"message":..}        a tracker failed; an empty message: it answers again
//   {"event":"error","kind":..,"message":..}         the last event
//   {"event":"done","downloaded":..,"rehashed":..}   the last event
//   {"event":"stopped","downloaded":..,"rehashed":..}   the last event
//
// A worker that ends without one of the last three has crashed. fetch/job/worker_event.h parses the events.

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "fetch/net/address.h"
#include "fetch/torrent/piece_map.h"
#include "format/json.h"

namespace sluice::fetch {

enum class JobKind : std::uint8_t {
  metadata,  ///< get the info dictionary from peers, write it to `result`
  payload,   ///< fetch the files of `torrent` into `folder`, write piece layers to `result`
};

struct WorkerJob {
  JobKind kind = JobKind::metadata;
  std::int64_t parent = 0;  ///< process id; the worker ends when this process does
  std::string result;
  std::optional<base::Sha1> infohash_v1;    // metadata
  std::optional<base::Sha256> infohash_v2;  // metadata
  std::string torrent;                      // payload
  std::string folder;                       // payload
  std::string journal;                      // payload: below `folder`
  std::string parts;                        // payload: below `folder`; parts of pieces in unwanted files
  std::vector<std::uint64_t> unwanted;      // payload: indices into the layout's files
  std::vector<std::uint64_t> apart;         // payload: unwanted files that are not touched where they lie
  bool recheck = false;                     // payload: hash all that is on the disk
  std::vector<PieceMap::Range> pieces;      // payload: restricts the pieces of wanted files; empty: all
  std::vector<Endpoint> peers;
  std::vector<Endpoint> trackers;
  std::vector<Endpoint> web_seeds;
  std::vector<Endpoint> mirrors;
  std::uint64_t limit_down_bytes_per_s = 0;
  std::uint64_t limit_up_bytes_per_s = 0;
  std::uint64_t memory_bytes = 512u << 20;
  std::string dht_state;  ///< a file; empty: not kept
  bool dht = true;
  bool pex = true;
  bool lsd = true;
  bool allow_private = false;
  int port = 0;
  bool v1_only = false;  ///< payload: libtorrent gets only the v1 half of a hybrid torrent
  double seed_ratio = 0;
  double seed_time_min = 0;
};

[[nodiscard]] format::Json to_json(const WorkerJob& job);
/// Error{malformed} for a line that is not a job.
[[nodiscard]] WorkerJob parse_job(std::string_view line);

/// Texts of an event are made printable and cut to this length, because trackers and peers may send long
/// ones.
constexpr std::size_t kEventTextMax = 4096;

/// The error message of a worker that has reached its memory limit (fetch/job/memory_limit.h).
constexpr std::string_view kOutOfMemory = "the transfer has used up the memory that --memory allows";

/// The error message of a worker in which libtorrent has found the v1 and v2 hashes of a hybrid torrent to
/// differ. Peers have brought that about by wrong blocks (2.0.8), so it is believed only from our own
/// verifier.
constexpr std::string_view kHashesDiffer =
    "libtorrent takes the v1 and v2 hashes for those of different data";

/// The worker's end of the pipes. read_line() and stop_requested() belong to one thread.
class WorkerPipe {
 public:
  /// Waits for one line; nothing at the end of input.
  [[nodiscard]] std::optional<std::string> read_line();
  /// True when the parent has sent "stop" or has ended. Does not wait.
  [[nodiscard]] bool stop_requested();
  /// Writes an event; may be called from any thread. Ends the process when the parent no longer reads.
  void send(const format::Json& event);
  void warn(std::string_view message);
  void send_error(base::ErrorKind kind, std::string_view message);
  /// A tracker's failure; an empty message says that it answers again.
  void send_tracker(std::string_view url, std::string_view message);

 private:
  std::mutex mutex_;  // serializes the lines on stdout
  std::string input_;
  bool stopped_ = false;
};

}  // namespace sluice::fetch
