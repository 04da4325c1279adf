// Runs in the caller's thread: starts a worker, reads one event at a time, with a pause of at most 100 ms,
// and calls the observer. A worker that crashes is replaced by a new one with the same job; the journal says
// where that continues. fetch/job/worker_pipe.h describes the protocol.
//
// A worker is not trusted, because a hostile peer may have taken it over: its lines and their values are
// bounded, the number of warnings is bounded, and a line that is not an event counts as a crash.
//
// Invariants: at most one worker runs at a time, and none survives run_supervised(), because ~WorkerProcess
// kills it. While pieces are fetched, the progress that the observer sees never runs backwards, not even
// across a crash.

#include "fetch/supervisor.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <variant>

#include "base/stopwatch.h"
#include "base/text.h"
#include "fetch/arrival_watch.h"
#include "fetch/job/worker_event.h"
#include "fetch/stall_reason.h"
#include "fetch/worker_process.h"

namespace sluice::fetch {
namespace {

using base::Clock;
using std::chrono::milliseconds;

constexpr int kRestartsMax = 5;                      // in a row
constexpr std::uint64_t kProgressBytes = 16u << 20;  // proven; after so many a crash does not count
constexpr milliseconds kRestartPauseMin{50};        // doubles with each restart in a row

enum class RunEnd { done, stopped, crashed };

class Supervisor {
 public:
  Supervisor(const FetchRequest& request, WorkerJob job, int lock_descriptor, FetchObserver& observer,
             const std::stop_token& stop)
      : request_(request),
        job_(std::move(job)),
        lock_descriptor_(lock_descriptor),
        observer_(observer),
        stop_(stop),
        arrivals_(request.timeout_s, Clock::now()) {
    job_.parent = ::getpid();
  }

  JobOutcome run() {
    // Each worker gets the same job, with one exception (kHashesDiffer); the journal says where to continue.
    for (int restarts = 0;; ++restarts) {
      switch (run_worker_once(to_json(job_).dump())) {
        case RunEnd::done: return outcome_;
        case RunEnd::stopped:
          if (seeding_) return outcome_;  // the download is complete, so stopping is not a failure
          throw base::Error(base::ErrorKind::interrupted, "interrupted; the same command goes on from here");
        case RunEnd::crashed: break;
      }
      if (restarts == kRestartsMax)
        throw base::Error(base::ErrorKind::io, "the transfer process crashed " +
                                                   std::to_string(restarts + 1) +
                                                   " times in a row, the last time: " + crash_cause_);
      warn("the transfer process crashed (" + crash_cause_ + ") and is started again");
      // The limit is meant for a worker that crashes at the same point each time. One that has proven 16 MiB
      // has come further, and its successor will, too.
      if (proven_bytes_ >= kProgressBytes) restarts = 0;
      pause(kRestartPauseMin * (1 << restarts));
      add_counts();
      proven_bytes_ = 0;
      downloaded_mark_ = 0;
      arrivals_.start_worker();
    }
  }

 private:
  // Runs one worker to its end. An exception leaves through the destructor of `worker`, which ends the
  // process.
  RunEnd run_worker_once(const std::string& job) {
    constexpr auto kStopPatience = std::chrono::seconds(90);  // a slow disk needs time for the last pieces
    WorkerProcess worker(request_.worker_command, job, lock_descriptor_);
    std::optional<Clock::time_point> stop_deadline;
    while (true) {
      std::string line;
      const auto state = worker.read_line(line, milliseconds(100));
      if (state == WorkerProcess::ReadState::broken) {
        crash_cause_ = "it wrote a line without an end";
        return RunEnd::crashed;
      }
      if (state == WorkerProcess::ReadState::ended) {
        if (stop_deadline) return end_stopped();  // a worker that was asked to stop may end in any way
        // No final event: whatever the exit code says, the worker has not finished its job.
        crash_cause_ = worker.wait();
        return RunEnd::crashed;
      }
      if (state == WorkerProcess::ReadState::line) {
        if (const auto end = handle_line(line)) {
          if (timed_out_ && *end == RunEnd::stopped) throw_no_peers();
          return *end;
        }
      }
      if (!stop_deadline && (stop_.stop_requested() || check_timeout())) {
        stop_deadline = Clock::now() + kStopPatience;
        worker.ask_to_stop();
      }
      if (stop_deadline && Clock::now() > *stop_deadline) return end_stopped();
    }
  }

  RunEnd end_stopped() {
    if (timed_out_) throw_no_peers();
    return RunEnd::stopped;
  }

  /// Returns true when nothing has arrived for request_.timeout_s.
  bool check_timeout() {
    timed_out_ = !seeding_ && arrivals_.expired(Clock::now());
    return timed_out_;
  }

  /// Whatever has made a worker crash may need a moment to go away.
  void pause(milliseconds length) const {
    const auto end = Clock::now() + length;
    while (Clock::now() < end && !stop_.stop_requested()) std::this_thread::sleep_for(milliseconds(20));
  }

  // ---- Events of the worker ----

  // Returns how the run has ended, or nothing while it goes on.
  std::optional<RunEnd> handle_line(const std::string& line) {
    std::optional<WorkerEvent> event;
    try {
      event = parse_event(line);
      if (const auto* status = std::get_if<StatusEvent>(&*event)) check_total(status->status);
    } catch (const base::Error& error) {  // a worker that breaks the protocol counts as crashed
      crash_cause_ = error.what();
      return RunEnd::crashed;
    }
    return std::visit([this](const auto& one) { return handle(one); }, *event);
  }

  std::optional<RunEnd> handle(const WarningEvent& event) {
    warn(event.message);
    return std::nullopt;
  }

  std::optional<RunEnd> handle(const TrackerEvent& event) {
    constexpr std::size_t kTrackersMax = 100;
    if (event.message.empty()) {
      tracker_problems_.erase(event.url);
      return std::nullopt;
    }
    // The worker chooses the URLs, so their number is bounded.
    if (tracker_problems_.size() >= kTrackersMax && !tracker_problems_.contains(event.url))
      return std::nullopt;
    std::string& known = tracker_problems_[event.url];
    if (known == event.message) return std::nullopt;  // a repeated failure is reported once
    known = event.message;
    warn("tracker " + event.url + ": " + event.message);
    return std::nullopt;
  }

  /// A worker that runs out of memory after some progress is replaced by a fresh one, which continues from
  /// the journal.
  std::optional<RunEnd> handle(const ErrorEvent& event) {
    // Any other error would come again, and so would a lack of memory at the start: they end the fetch.
    const bool without_v2 = event.message == kHashesDiffer && !job_.v1_only;
    if (!without_v2 && (event.message != kOutOfMemory || run_.downloaded_bytes < kProgressBytes))
      throw base::Error(event.kind, event.message);
    // Without the v2 half libtorrent cannot come to that belief again. Our own verifier compares both halves,
    // and says so if they do differ.
    job_.v1_only = job_.v1_only || without_v2;
    crash_cause_ = event.message;
    return RunEnd::crashed;
  }

  std::optional<RunEnd> handle(const EndEvent& event) {
    run_ = event.counts;
    add_counts();
    return event.done ? RunEnd::done : RunEnd::stopped;
  }

  // The values are those that parse_event() has checked. Counts of this run are kept apart from those of
  // earlier workers, because each worker counts from zero.
  std::optional<RunEnd> handle(const StatusEvent& event) {
    FetchStatus status = event.status;
    run_ = event.counts;
    peers_max_ = std::max(peers_max_, status.peers);
    peers_ = status.peers;
    availability_ = status.availability;
    seeding_ = status.phase == "seeding";
    record_arrival(event);
    // Damaged pieces are fetched again, but the progress must not run backwards.
    if (status.phase == "fetching") status.done_bytes = done_max_ = std::max(done_max_, status.done_bytes);
    if (status.phase == "fetching" || status.phase == "metadata") status.stall_reason = find_stall_reason();
    if (status.phase == "fetching") report_swarm(event);
    observer_.on_status(status);
    return std::nullopt;
  }

  /// The total of a fetch must not change while it runs.
  void check_total(const FetchStatus& status) {
    if (status.phase != "fetching") return;
    if (!total_) total_ = status.total_bytes;
    if (total_ != status.total_bytes) base::throw_malformed("worker event", "'total' has changed");
  }

  void add_counts() {
    outcome_.downloaded_bytes += run_.downloaded_bytes;
    outcome_.rehashed_bytes += run_.rehashed_bytes;
    outcome_.adopted_bytes += run_.adopted_bytes;
    // A later worker believes what an earlier one of this fetch has proven, so the first one counts.
    if (!outcome_.believed_bytes) {
      outcome_.believed_bytes = run_.believed_bytes;
      outcome_.believed_pieces = run_.believed_pieces.value_or(0);
    }
    run_ = {};
  }

  void record_arrival(const StatusEvent& event) {
    const bool more_proven = event.proven_bytes > proven_bytes_;
    proven_bytes_ = event.proven_bytes;
    if (more_proven) downloaded_mark_ = run_.downloaded_bytes;
    unproven_ =
        job_.kind == JobKind::metadata ? event.unproven_bytes > 0 : run_.downloaded_bytes > downloaded_mark_;
    // Hashing what is on the disk counts as an arrival: the timeout is about peers.
    if (event.status.phase == "checking")
      arrivals_.record_proven(Clock::now());
    else
      arrivals_.record(event.proven_bytes, event.unproven_bytes, Clock::now());
  }

  // ---- Reports to the user ----

  /// Bounds the warnings of a worker that was taken over.
  void warn(const std::string& message) {
    constexpr int kWarningsMax = 500;
    if (++warnings_ < kWarningsMax) observer_.on_warning(message);
    if (warnings_ == kWarningsMax) observer_.on_warning("further warnings are not shown");
    warnings_ = std::min(warnings_, kWarningsMax);
  }

  [[nodiscard]] std::string reason() const {
    return stall_reason({.metadata = job_.kind == JobKind::metadata,
                         .peers = peers_,
                         .unproven = unproven_,
                         .trackers = job_.trackers.size(),
                         .failing_trackers = std::min(tracker_problems_.size(), job_.trackers.size()),
                         .availability = availability_});
  }

  std::string find_stall_reason() {
    constexpr double kShown_s = 5;
    constexpr double kWarned_s = 30;
    const double waited_s = arrivals_.waiting_s(Clock::now());
    if (waited_s < kShown_s) return "";  // short pauses are normal
    std::string text = reason();
    if (waited_s >= kWarned_s && reported_reasons_.insert(text).second)
      warn("nothing arrives: " + text +
           (request_.timeout_s > 0
                ? "; the fetch ends after " + base::to_duration_text(request_.timeout_s) + " without a byte"
                : "; waiting goes on; Ctrl-C ends it, and the same command resumes"));
    return text;
  }

  /// Reports the swarm once, when enough is known of it.
  void report_swarm(const StatusEvent& event) {
    const FetchStatus& status = event.status;
    const bool peers_known = status.peers > 0 && status.availability;
    if (swarm_reported_ || (!event.complete && !peers_known)) return;
    // A peer announces its pieces some time after the connection.
    constexpr auto kPatience = std::chrono::seconds(2);
    if (!swarm_since_) swarm_since_ = Clock::now();
    const bool all_there = peers_known && *status.availability >= 1;
    if (!all_there && Clock::now() - *swarm_since_ < kPatience) return;
    swarm_reported_ = true;
    observer_.on_swarm({.peers = status.peers,
                        .seeds = status.seeds,
                        .complete = event.complete,
                        .incomplete = event.incomplete,
                        .availability = peers_known ? status.availability : std::nullopt});
  }

  [[noreturn]] void throw_no_peers() const {
    const std::size_t servers = job_.mirrors.size() + job_.web_seeds.size();
    std::string tried = base::to_counted(job_.peers.size(), "given peer") + ", " +
                        base::to_counted(job_.trackers.size(), "tracker") + (job_.dht ? ", DHT" : "") +
                        (servers > 0 ? ", " + base::to_counted(servers, "web server") : "") +
                        (job_.lsd ? ", local network" : "") + "; at most " +
                        base::to_counted(peers_max_, "peer") + " connected at once";
    for (const auto& [url, message] : tracker_problems_) tried += "; tracker " + url + ": " + message;
    const char* what = job_.kind == JobKind::metadata ? "metadata" : "payload";
    const std::string limit = std::to_string(static_cast<long>(request_.timeout_s)) + " s";
    if (job_.peers.empty() && job_.trackers.empty() && servers == 0 && !job_.dht && !job_.lsd)
      throw base::Error(
          base::ErrorKind::no_peers,
          std::string("no peer delivered ") + what + " for " + limit +
              ": DHT and local search are off, and no tracker or peer is known; give --peer or --tracker");
    throw base::Error(base::ErrorKind::no_peers, std::string("no peer delivered ") + what + " for " + limit +
                                                     " (tried: " + tried + "): " + reason());
  }

  const FetchRequest& request_;
  WorkerJob job_;
  int lock_descriptor_;
  FetchObserver& observer_;
  const std::stop_token& stop_;
  std::string crash_cause_;
  JobOutcome outcome_;  // of the workers that have ended
  TransferCounts run_;  // of the running worker
  std::map<std::string, std::string> tracker_problems_;
  std::set<std::string> reported_reasons_;
  int warnings_ = 0;
  unsigned peers_ = 0;
  unsigned peers_max_ = 0;
  std::optional<double> availability_;
  std::optional<std::uint64_t> total_;            // in the phase "fetching"
  std::optional<Clock::time_point> swarm_since_;  // since something is known
  bool swarm_reported_ = false;
  std::uint64_t done_max_ = 0;
  std::uint64_t proven_bytes_ = 0;     // by the running worker
  std::uint64_t downloaded_mark_ = 0;  // of the running worker, when bytes were last proven
  bool unproven_ = false;              // bytes have come since then
  ArrivalWatch arrivals_;
  bool timed_out_ = false;
  bool seeding_ = false;
};

}  // namespace

JobOutcome run_supervised(const FetchRequest& request, WorkerJob job, int lock_descriptor,
                          FetchObserver& observer, const std::stop_token& stop) {
  return Supervisor(request, std::move(job), lock_descriptor, observer, stop).run();
}

}  // namespace sluice::fetch
