// The worker's first job: gets the info dictionary of a magnet link from peers (BEP 9). Nothing else is
// fetched, and the session cannot write to the disk.
//
// The main thread runs MetadataWorker::run(); MetadataExchange works in libtorrent's network thread. The
// parent verifies the result again, because this process has talked to strangers.

#include <algorithm>
#include <chrono>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/extensions/ut_pex.hpp>
#include <libtorrent/torrent_flags.hpp>
#include <libtorrent/torrent_status.hpp>
#include <optional>

#include "base/bytes.h"
#include "base/file.h"
#include "base/stopwatch.h"
#include "fetch/swarm/load_torrent.h"
#include "fetch/swarm/metadata_exchange.h"
#include "fetch/swarm/peer_gate.h"
#include "fetch/swarm/session.h"
#include "fetch/swarm/session_manager.h"
#include "fetch/torrent/torrent_file.h"
#include "fetch/worker/job_options.h"
#include "fetch/worker/run_worker.h"

namespace sluice::fetch {
namespace {

using base::Clock;
using format::Json;

class MetadataWorker {
 public:
  MetadataWorker(const WorkerJob& job, WorkerPipe& pipe)
      : job_(job),
        pipe_(pipe),
        gate_(std::make_shared<PeerGate>()),
        exchange_(std::make_shared<MetadataExchange>(job.infohash_v1, job.infohash_v2,
                                                     torrent_limits(job.memory_bytes).bytes_max, gate_)) {
    SessionOptions options = session_options(job, share_memory(job.memory_bytes), pipe);
    options.plugins = false;  // above all ut_metadata, whose place MetadataExchange takes
    session_ = make_session(options);
    lt::add_torrent_params params;
    params.info_hashes = to_info_hashes(job.infohash_v1, job.infohash_v2);
    params.save_path = "/nonexistent";  // libtorrent wants a path, but this session has no disk back end
    params.flags = torrent_flags(job) | lt::torrent_flags::default_dont_download;
    // The gate comes first: a peer that it refuses must not reach the others.
    params.extensions.emplace_back(
        [gate = gate_](const lt::torrent_handle&, lt::client_data_t) { return gate; });
    if (job.pex) params.extensions.emplace_back(&lt::create_ut_pex_plugin);
    params.extensions.emplace_back(
        [exchange = exchange_](const lt::torrent_handle&, lt::client_data_t) { return exchange; });
    torrent_ = session_->add_torrent(std::move(params));
    session_manager_.emplace(job, *session_, torrent_, gate_, pipe);
  }

  void run() {
    auto next_status = Clock::now();
    while (!pipe_.stop_requested()) {
      session_->wait_for_alert(std::chrono::milliseconds(100));
      handle_alerts();
      if (const auto parts = exchange_->take(); !parts.empty()) return finish(parts);
      session_manager_->tick();
      if (Clock::now() < next_status) continue;
      next_status = Clock::now() + std::chrono::milliseconds(500);
      send_status();
    }
    pipe_.send(Json::object({{"event", "stopped"}, {"downloaded", 0}, {"rehashed", 0}}));
  }

 private:
  void handle_alerts() {
    std::vector<lt::alert*> alerts;
    session_->pop_alerts(&alerts);
    for (const lt::alert* alert : alerts) session_manager_->handle(*alert);
    for (const std::string& warning : exchange_->take_warnings()) pipe_.warn(warning);
  }

  void finish(const std::vector<std::string>& parts) {
    // Block by block: the parent limits the memory of both processes, and the metadata may be large.
    base::AtomicFile atomic(job_.result);
    std::uint64_t offset_bytes = 0;
    for (const std::string& part : parts) {
      atomic.file().write_at(offset_bytes, base::as_bytes(part));
      offset_bytes += part.size();
    }
    atomic.commit();
    pipe_.send(Json::object({{"event", "done"}, {"downloaded", 0}, {"rehashed", 0}}));
  }

  void send_status() {
    lt::torrent_status status = torrent_.status({});
    status.num_peers = count_peers(torrent_);
    pipe_.send(Json::object({{"event", "status"},
                             {"phase", "metadata"},
                             {"done", 0},
                             {"total", 0},
                             {"rate", status.download_rate},
                             {"peers", status.num_peers},
                             {"seeds", status.num_seeds},
                             {"downloaded", exchange_->furthest_bytes()},
                             {"rehashed", 0},
                             {"proven", 0},
                             {"unproven", exchange_->accepted_bytes()}}));
  }

  const WorkerJob& job_;
  WorkerPipe& pipe_;
  std::shared_ptr<PeerGate> gate_;
  std::shared_ptr<MetadataExchange> exchange_;
  std::unique_ptr<lt::session> session_;
  lt::torrent_handle torrent_;
  std::optional<SessionManager> session_manager_;  // uses the session
};

}  // namespace

void run_metadata_job(const WorkerJob& job, WorkerPipe& pipe) { MetadataWorker(job, pipe).run(); }

}  // namespace sluice::fetch
