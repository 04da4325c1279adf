#pragma once
// What fetch() and its worker processes say to each other: one JSON object a line. The parent sends a job,
// and later perhaps the line "stop"; the worker answers with events:
//
//   {"event":"status","phase":..,"done":..,"total":..,"rate":..,"peers":..,"seeds":..,"downloaded":..,"rehashed":..}
//       also "availability" (copies of the rarest wanted piece), "complete" and "incomplete" (of trackers)
//   {"event":"warning","message":..}            for the user
//   {"event":"tracker","url":..,"message":..}   a tracker failed; without a message: it answers
//   {"event":"error","kind":..,"message":..}    the end
//   {"event":"done","downloaded":..,"rehashed":..} / {"event":"stopped", same keys}   the end
//
// A worker that ends without one of the last three has crashed. How the parent reads events:
// fetch/worker_event.h.

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
  std::int64_t parent = 0;  ///< process id: a worker without its parent ends
  std::string result;
  std::optional<base::Sha1> infohash_v1;    // metadata
  std::optional<base::Sha256> infohash_v2;  // metadata
  std::string torrent;                      // payload
  std::string folder;                       // payload
  std::string journal;                      // payload: below `folder`
  std::string parts;                        // payload: below `folder`; shares of pieces in unwanted files
  std::vector<std::uint64_t> unwanted;      // payload: indices into the layout's files
  std::vector<PieceMap::Range> pieces;      // payload: of the wanted files; none: all of them
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
  double seed_ratio = 0;
  double seed_time_min = 0;
};

[[nodiscard]] format::Json to_json(const WorkerJob& job);
/// Error{malformed} for what is no job.
[[nodiscard]] WorkerJob parse_job(std::string_view line);

/// Texts of an event are made printable and cut to this length: trackers and peers may say much.
constexpr std::size_t kEventTextMax = 4096;

/// What a worker ends with that has reached its ceiling (fetch/job/memory_limit.h).
constexpr std::string_view kOutOfMemory = "the transfer has used up the memory that --memory allows";

/// The worker's end of the pipes.
class WorkerPipe {
 public:
  /// Blocks for one line; nothing at the end of input.
  [[nodiscard]] std::optional<std::string> read_line();
  /// True when the parent said "stop" or is gone. Does not block.
  [[nodiscard]] bool stop_requested();
  /// Writes an event; from any thread. A parent that does not read any more ends the process.
  void send(const format::Json& event);
  void warn(std::string_view message);
  void send_error(base::ErrorKind kind, std::string_view message);
  /// A tracker's failure; an empty message says that it answers again.
  void send_tracker(std::string_view url, std::string_view message);

 private:
  std::mutex mutex_;
  std::string input_;
  bool stopped_ = false;
};

}  // namespace sluice::fetch
