// Shares a release. It runs in the caller's process and thread, without a worker: it has no journal and
// writes nothing, so a crash costs nothing. libtorrent's network thread and the threads of the store do the
// work; this thread only reads alerts and reports.
//
// Invariant: only bytes that match the torrent are sent. seed_mode makes libtorrent verify each piece before
// it sends the first block of it.

#include <sys/stat.h>

#include <chrono>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_status.hpp>
#include <libtorrent/version.hpp>
#include <map>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/stopwatch.h"
#include "fetch/fetch.h"
#include "fetch/output_folder.h"
#include "fetch/swarm/dht_state.h"
#include "fetch/swarm/disk_io.h"
#include "fetch/swarm/load_torrent.h"
#include "fetch/swarm/session.h"
#include "fetch/swarm/session_manager.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

using base::Clock;

constexpr std::uint64_t kTreeBytesMax = 96u << 20;  // above it a hybrid torrent is shared as v1

// A seeder announces the whole release, so a missing or short file is an error at the start and not one at
// the first request of a peer.
void check_files(const format::ReleaseLayout& layout, const std::filesystem::path& folder) {
  const auto root = layout.single_file ? folder : folder / layout.name;
  for (const format::ReleaseFile& file : layout.files) {
    if (file.pad) continue;
    const auto path = root / file.path;
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
      if (errno != ENOENT && errno != ENOTDIR) base::throw_errno(path, "look at", errno);
      throw base::Error(base::ErrorKind::incomplete,
                        path.string() + ": the file is missing, so it cannot be shared");
    }
    if (!S_ISREG(info.st_mode)) base::throw_malformed(path.string(), "is not a regular file");
    if (static_cast<std::uint64_t>(info.st_size) != file.length_bytes)
      throw base::Error(base::ErrorKind::incomplete, path.string() + ": has " + std::to_string(info.st_size) +
                                                         " bytes, expected " +
                                                         std::to_string(file.length_bytes));
  }
}

std::vector<std::filesystem::path> release_paths(const format::ReleaseLayout& layout) {
  std::vector<std::filesystem::path> paths;
  for (const format::ReleaseFile& file : layout.files)
    paths.push_back(layout.single_file ? std::filesystem::path(file.path)
                                       : layout.name / std::filesystem::path(file.path));
  return paths;
}

// The members are in the order of their use: the session is destroyed before the store, and the store before
// the files.
class Seeder {
 public:
  Seeder(const SeedRequest& request, SeedObserver& observer, Torrent& torrent)
      : request_(request),
        observer_(observer),
        map_(torrent.layout),
        verifier_(torrent.layout, map_),
        storage_(open_storage(request.folder)),
        files_(*storage_, map_, release_paths(torrent.layout)),
        store_(files_, map_, verifier_, nullptr, {}) {  // without a committer: it only reads
    SessionOptions options = session_options(request, observer);
    options.disk_io = make_disk_io(store_);
    session_ = make_session(options);
    bootstrap_.emplace(*session_, request.dht);
    lt::add_torrent_params params = load_torrent(torrent, kTreeBytesMax);
    params.save_path = request.folder.string();
    // The two lists are parallel; trackers without a tier of their own get tier 0.
    params.trackers.insert(params.trackers.end(), request.trackers.begin(), request.trackers.end());
    params.tracker_tiers.resize(params.trackers.size(), 0);
    // seed_mode hashes each piece when a peer first requests it, so that the start is fast and no wrong piece
    // is sent. When a piece is wrong, all pieces are hashed and the right ones shared. upload_mode: nothing
    // is ever fetched.
    params.flags = lt::torrent_flags::seed_mode | lt::torrent_flags::upload_mode;
    if (!request.pex) params.flags |= lt::torrent_flags::disable_pex;
    lt::error_code error;
    handle_ = session_->add_torrent(std::move(params), error);
    if (error) base::throw_malformed(request.torrent.string(), error.message());
  }

  /// Shares until a stop is requested. False when the port cannot be listened on.
  [[nodiscard]] bool run(const std::stop_token& stop) {
    auto next_status = Clock::now();
    while (!stop.stop_requested()) {
      session_->wait_for_alert(std::chrono::milliseconds(50));
      handle_alerts();
      if (cannot_listen()) return false;
      if (Clock::now() < next_status) continue;
      next_status = Clock::now() + std::chrono::seconds(1);
      report_status();
      bootstrap_->tick();
      if (Clock::now() >= next_save_) save_dht();
    }
    report_status();
    save_dht();
    return true;
  }

  [[nodiscard]] const std::string& listen_problem() const { return listen_problem_; }

 private:
  void report_status() {
    const lt::torrent_status status = handle_.status({});
    observer_.on_status(static_cast<std::uint64_t>(status.total_payload_upload),
                        static_cast<std::uint64_t>(status.upload_payload_rate),
                        static_cast<unsigned>(status.num_peers));
  }

  static SessionOptions session_options(const SeedRequest& request, SeedObserver& observer) {
    SessionOptions options;
    options.port = request.port;
    options.listen_address = request.listen_address;
    options.dht = request.dht;
    options.lsd = request.lsd;
    options.limit_up_bytes_per_s = request.limit_up_bytes_per_s;
    if (request.dht)
      options.dht_state = load_dht_state(dht_state_path(request.cache_folder),
                                         [&](const std::string& message) { observer.on_warning(message); });
    return options;
  }

  void save_dht() {
    if (!request_.dht) return;
    next_save_ = Clock::now() + kDhtSavePause;
    save_dht_state(*session_, dht_state_path(request_.cache_folder),
                   [this](const std::string& message) { observer_.on_warning(message); });
  }

  void handle_alerts() {
    std::vector<lt::alert*> alerts;
    session_->pop_alerts(&alerts);
    for (const lt::alert* alert : alerts) {
      if (const auto* listening = lt::alert_cast<lt::listen_succeeded_alert>(alert)) {
        if (listening->socket_type == lt::socket_type_t::tcp && !listening_) {
          listening_ = true;
          observer_.on_listening(listening->port);
        }
      } else if (const auto* failed = lt::alert_cast<lt::listen_failed_alert>(alert)) {
        listen_problem_ = failed->error.message();
      } else if (lt::alert_cast<lt::dht_bootstrap_alert>(alert) != nullptr) {
        handle_.force_dht_announce();  // earlier announces reached no node
      } else if (const auto* error = lt::alert_cast<lt::file_error_alert>(alert)) {
        throw base::Error(base::ErrorKind::io,
                          std::string(error->filename()) + ": " + error->error.message());
      } else if (const auto* tracker = lt::alert_cast<lt::tracker_error_alert>(alert)) {
        if (!other_socket_asks(*tracker)) warn_of_tracker(tracker->tracker_url(), tracker->error.message());
      } else if (const auto* bad = lt::alert_cast<lt::hash_failed_alert>(alert)) {
        observer_.on_warning(
            "piece " + std::to_string(static_cast<int>(bad->piece_index)) +
            " on disk is not what the torrent says; the others are checked before they are shared");
      }
    }
  }

  /// Reports a repeated failure once.
  void warn_of_tracker(const std::string& url, const std::string& problem) {
    std::string& known = tracker_problems_[url];
    if (known == problem) return;
    known = problem;
    observer_.on_warning("tracker " + url + ": " + problem);
  }

  /// True when neither IPv4 nor IPv6 listens in time.
  [[nodiscard]] bool cannot_listen() const { return !listening_ && Clock::now() >= listen_deadline_; }

  const SeedRequest& request_;
  SeedObserver& observer_;
  PieceMap map_;
  PieceVerifier verifier_;
  std::unique_ptr<Storage> storage_;
  ReleaseFiles files_;
  PieceStore store_;
  std::unique_ptr<lt::session> session_;  // uses the store
  lt::torrent_handle handle_;
  std::map<std::string, std::string> tracker_problems_;
  std::optional<DhtBootstrap> bootstrap_;  // uses the session
  Clock::time_point next_save_ = Clock::now() + kDhtSavePause;
  bool listening_ = false;
  std::string listen_problem_;
  Clock::time_point listen_deadline_ = Clock::now() + std::chrono::seconds(2);
};

}  // namespace

std::string libtorrent_version() { return lt::version(); }

void seed(const SeedRequest& request, SeedObserver& observer, const std::stop_token& stop) {
  Torrent torrent =
      parse_torrent_file(base::read_text_file(request.torrent, kTorrentBytesMax), request.torrent.string());
  for (const std::string& warning : torrent.layout.warnings) observer.on_warning(warning);
  check_files(torrent.layout, request.folder);
  // A v2 peer asks for the hashes of a piece before it can verify it; a v1 peer has them in the torrent.
  if (!torrent.layout.infohash_v1) {
    for (const format::ReleaseFile& file : torrent.layout.files)
      if (file.length_bytes > torrent.layout.piece_bytes && file.piece_layer.empty())
        base::throw_malformed(request.torrent.string(),
                              "has no piece layer of '" + file.path + "', so it cannot be shared");
  }
  std::string problem;
  {
    Seeder seeder(request, observer, torrent);
    if (seeder.run(stop)) return;
    problem = "port " + std::to_string(request.port) + ": cannot listen for peers: " +
              (seeder.listen_problem().empty() ? "no address" : seeder.listen_problem());
  }
  if (!request.any_port_if_taken || request.port == 0) throw base::Error(base::ErrorKind::io, problem);
  observer.on_warning(problem + "; another port is taken");
  SeedRequest any_port = request;
  any_port.port = 0;
  any_port.any_port_if_taken = false;
  // The seeder keeps the torrent's piece layers no longer than it lives, so the file is read again.
  seed(any_port, observer, stop);
}

}  // namespace sluice::fetch
