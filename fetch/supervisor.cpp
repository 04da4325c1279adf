#include "fetch/supervisor.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <optional>

#include "base/text.h"
#include "fetch/worker_process.h"

namespace sluice::fetch {
namespace {

using Clock = std::chrono::steady_clock;
using format::Json;
using std::chrono::milliseconds;

constexpr int kRestartsMax = 5;
constexpr std::uint64_t kMetadataPieceBytes = 16 << 10;  // BEP 9
constexpr std::string_view kSubject = "worker event";

enum class RunEnd { done, stopped, crashed };

class Supervisor {
 public:
  Supervisor(const FetchRequest& request, WorkerJob job, int lock_descriptor, FetchObserver& observer,
             const std::stop_token& stop)
      : request_(request),
        job_(std::move(job)),
        lock_descriptor_(lock_descriptor),
        observer_(observer),
        stop_(stop) {
    job_.parent = ::getpid();
  }

  JobOutcome run() {
    const std::string line = to_json(job_).dump();
    for (int restarts = 0;; ++restarts) {
      WorkerProcess worker(request_.worker_command, line, lock_descriptor_);
      switch (run_worker_once(worker)) {
        case RunEnd::done: return outcome_;
        case RunEnd::stopped:
          if (seeding_) return outcome_;
          throw base::Error(base::ErrorKind::interrupted, "interrupted; the same command goes on from here");
        case RunEnd::crashed: break;
      }
      const std::string how = worker.wait();
      if (restarts == kRestartsMax)
        throw base::Error(
            base::ErrorKind::io,
            "the transfer process crashed " + std::to_string(restarts + 1) + " times, the last time: " + how);
      observer_.on_warning("the transfer process crashed (" + how + ") and is started again");
      outcome_.downloaded_bytes += std::exchange(run_.downloaded_bytes, 0);
      outcome_.rehashed_bytes += std::exchange(run_.rehashed_bytes, 0);
      downloaded_mark_ = 0;
    }
  }

 private:
  RunEnd run_worker_once(WorkerProcess& worker) {
    constexpr auto kPatience = std::chrono::seconds(90);  // for saving on a slow disk
    std::optional<Clock::time_point> stop_deadline;
    while (true) {
      std::string line;
      const auto state = worker.read_line(line, milliseconds(100));
      if (state == WorkerProcess::ReadState::ended) return stop_deadline ? end_stopped() : RunEnd::crashed;
      if (state == WorkerProcess::ReadState::line) {
        if (const auto end = handle_event(line)) {
          if (timed_out_ && *end == RunEnd::stopped) throw_no_peers();
          return *end;
        }
      }
      if (!stop_deadline && (stop_.stop_requested() || check_timeout())) {
        stop_deadline = Clock::now() + kPatience;
        worker.ask_to_stop();
      }
      if (stop_deadline && Clock::now() > *stop_deadline) return end_stopped();
    }
  }

  RunEnd end_stopped() {
    if (timed_out_) throw_no_peers();
    return RunEnd::stopped;
  }

  /// True when nothing has arrived for too long.
  bool check_timeout() {
    if (request_.timeout_s <= 0 || seeding_) return false;
    timed_out_ = std::chrono::duration<double>(Clock::now() - last_arrival_).count() > request_.timeout_s;
    return timed_out_;
  }

  /// What a worker says is checked like everything from outside: a peer may have taken it over.
  std::optional<RunEnd> handle_event(const std::string& line) {
    const Json event = format::parse_json(line, kSubject);
    const std::string& name = event.at("event", kSubject).as_string(kSubject);
    if (name == "status") {
      handle_status(event);
    } else if (name == "warning") {
      observer_.on_warning(base::to_printable(event.at("message", kSubject).as_string(kSubject)));
    } else if (name == "tracker") {
      handle_tracker(event);
    } else if (name == "error") {
      const auto kind = parse_error_kind(event.at("kind", kSubject).as_string(kSubject));
      throw base::Error(kind.value_or(base::ErrorKind::io),
                        base::to_printable(event.at("message", kSubject).as_string(kSubject)));
    } else if (name == "done" || name == "stopped") {
      take_counts(event);
      outcome_.downloaded_bytes += run_.downloaded_bytes;
      outcome_.rehashed_bytes += run_.rehashed_bytes;
      return name == "done" ? RunEnd::done : RunEnd::stopped;
    }
    return std::nullopt;
  }

  void take_counts(const Json& event) {
    run_.downloaded_bytes = event.at("downloaded", kSubject).as_uint(kSubject);
    run_.rehashed_bytes = event.at("rehashed", kSubject).as_uint(kSubject);
  }

  void handle_tracker(const Json& event) {
    const std::string url = base::to_printable(event.at("url", kSubject).as_string(kSubject));
    const std::string message = base::to_printable(event.at("message", kSubject).as_string(kSubject));
    constexpr std::size_t kTrackersMax = 100;
    if (tracker_problems_.size() >= kTrackersMax) return;
    std::string& known = tracker_problems_[url];
    if (known == message) return;  // a tracker that fails again and again is told once
    known = message;
    observer_.on_warning("tracker " + url + ": " + message);
  }

  void handle_status(const Json& event) {
    static constexpr std::array<std::string_view, 4> kPhases{"metadata", "checking", "fetching", "seeding"};
    const auto number = [&](std::string_view key) { return event.at(key, kSubject).as_uint(kSubject); };
    const std::string& phase_name = event.at("phase", kSubject).as_string(kSubject);
    const auto phase = std::ranges::find(kPhases, phase_name);
    if (phase == kPhases.end()) base::throw_malformed(kSubject, "unknown phase");
    take_counts(event);
    FetchStatus status;
    status.phase = *phase;
    status.total_bytes = number("total");
    status.done_bytes = std::min(number("done"), status.total_bytes);
    status.rate_bytes_per_s = number("rate");
    status.peers = static_cast<unsigned>(std::min<std::uint64_t>(number("peers"), 1'000'000));
    status.seeds = static_cast<unsigned>(std::min<std::uint64_t>(number("seeds"), 1'000'000));
    peers_max_ = std::max(peers_max_, status.peers);
    seeding_ = status.phase == "seeding";
    note_arrival(status.phase);
    // Pieces that turn out damaged are fetched again; that is no reason to run backwards.
    if (status.phase == "fetching") status.done_bytes = done_max_ = std::max(done_max_, status.done_bytes);
    observer_.on_status(status);
  }

  void note_arrival(std::string_view phase) {
    // Before there is metadata, all that peers say is counted together, so only whole pieces of it count.
    const std::uint64_t step = phase == "metadata" ? kMetadataPieceBytes : 1;
    if (phase == "checking" || run_.downloaded_bytes >= downloaded_mark_ + step) {
      last_arrival_ = Clock::now();
      downloaded_mark_ = run_.downloaded_bytes;
    }
  }

  [[noreturn]] void throw_no_peers() const {
    std::string tried = std::to_string(job_.peers.size()) + " given peers, " +
                        std::to_string(job_.trackers.size()) + " trackers" + (job_.dht ? ", DHT" : "") +
                        (job_.lsd ? ", local network" : "") + "; at most " + std::to_string(peers_max_) +
                        " peers were connected";
    for (const auto& [url, message] : tracker_problems_) tried += "; tracker " + url + ": " + message;
    const char* what = job_.kind == JobKind::metadata ? "metadata" : "payload";
    throw base::Error(base::ErrorKind::no_peers, std::string("no peer delivered ") + what + " for " +
                                                     std::to_string(static_cast<long>(request_.timeout_s)) +
                                                     " s (tried: " + tried + ")");
  }

  const FetchRequest& request_;
  WorkerJob job_;
  int lock_descriptor_;
  FetchObserver& observer_;
  const std::stop_token& stop_;
  JobOutcome outcome_;  // of workers that have ended
  JobOutcome run_;      // of the one that runs
  std::map<std::string, std::string> tracker_problems_;
  unsigned peers_max_ = 0;
  std::uint64_t done_max_ = 0;
  std::uint64_t downloaded_mark_ = 0;
  Clock::time_point last_arrival_ = Clock::now();
  bool timed_out_ = false;
  bool seeding_ = false;
};

}  // namespace

JobOutcome run_supervised(const FetchRequest& request, WorkerJob job, int lock_descriptor,
                          FetchObserver& observer, const std::stop_token& stop) {
  return Supervisor(request, std::move(job), lock_descriptor, observer, stop).run();
}

}  // namespace sluice::fetch
