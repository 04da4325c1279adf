// The worker's first job: the info dictionary of a magnet link, from peers (BEP 9). Nothing else is fetched,
// and the session cannot write to the disk.

#include <chrono>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/torrent_flags.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>
#include <optional>

#include "base/bytes.h"
#include "base/file.h"
#include "fetch/job_options.h"
#include "fetch/load_torrent.h"
#include "fetch/session.h"
#include "fetch/session_keeper.h"
#include "fetch/worker.h"

namespace sluice::fetch {
namespace {

using Clock = std::chrono::steady_clock;
using format::Json;

class MetadataWorker {
 public:
  MetadataWorker(const WorkerJob& job, WorkerPipe& pipe) : job_(job), pipe_(pipe) {
    session_ = make_session(session_options(job, share_memory(job.memory_bytes), pipe));
    lt::add_torrent_params params;
    params.info_hashes = to_info_hashes(job.infohash_v1, job.infohash_v2);
    params.save_path = "/nonexistent";
    params.flags = torrent_flags(job) | lt::torrent_flags::default_dont_download;
    torrent_ = session_->add_torrent(std::move(params));
    keeper_.emplace(job, *session_, torrent_, pipe);
  }

  void run() {
    auto next_status = Clock::now();
    while (!pipe_.stop_requested()) {
      session_->wait_for_alert(std::chrono::milliseconds(100));
      if (handle_alerts()) return;
      keeper_->tick();
      if (Clock::now() < next_status) continue;
      next_status = Clock::now() + std::chrono::milliseconds(500);
      send_status();
    }
    pipe_.send(Json::object({{"event", "stopped"}, {"downloaded", 0}, {"rehashed", 0}}));
  }

 private:
  /// True when the job is done.
  bool handle_alerts() {
    std::vector<lt::alert*> alerts;
    session_->pop_alerts(&alerts);
    for (const lt::alert* alert : alerts) {
      if (lt::alert_cast<lt::metadata_received_alert>(alert) != nullptr) {
        const auto info = torrent_.torrent_file()->info_section();
        base::write_file(job_.result, base::as_bytes({info.data(), static_cast<std::size_t>(info.size())}));
        pipe_.send(Json::object({{"event", "done"}, {"downloaded", 0}, {"rehashed", 0}}));
        return true;
      }
      if (const auto* failed = lt::alert_cast<lt::metadata_failed_alert>(alert)) {
        pipe_.warn("a peer sent metadata that does not fit the info-hash: " + failed->error.message());
      } else {
        keeper_->handle(*alert);
      }
    }
    return false;
  }

  void send_status() {
    const lt::torrent_status status = torrent_.status({});
    pipe_.send(Json::object({{"event", "status"},
                             {"phase", "metadata"},
                             {"done", 0},
                             {"total", 0},
                             {"rate", status.download_rate},
                             {"peers", status.num_peers},
                             {"seeds", status.num_seeds},
                             {"downloaded", status.total_download},
                             {"rehashed", 0}}));
  }

  const WorkerJob& job_;
  WorkerPipe& pipe_;
  std::unique_ptr<lt::session> session_;
  lt::torrent_handle torrent_;
  std::optional<SessionKeeper> keeper_;  // uses the session
};

}  // namespace

void run_metadata_job(const WorkerJob& job, WorkerPipe& pipe) { MetadataWorker(job, pipe).run(); }

}  // namespace sluice::fetch
