// The worker's second job: the files of a checked .torrent. It keeps libtorrent's resume data beside them, so
// that a worker that is killed at any instant goes on from what was durable.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "fetch/bencode.h"
#include "fetch/contacts.h"
#include "fetch/job_options.h"
#include "fetch/load_torrent.h"
#include "fetch/piece_layers.h"
#include "fetch/resume_data.h"
#include "fetch/session.h"
#include "fetch/torrent_file.h"
#include "fetch/worker.h"

namespace sluice::fetch {
namespace {

using Clock = std::chrono::steady_clock;
using format::Json;
using std::chrono::milliseconds;

constexpr auto kSavePause = std::chrono::seconds(1);

class PayloadWorker {
 public:
  PayloadWorker(const WorkerJob& job, WorkerPipe& pipe)
      : job_(job),
        pipe_(pipe),
        torrent_(parse_torrent_file(base::read_text_file(job.torrent, kTorrentBytesMax), job.torrent)) {
    lt::add_torrent_params params = load_torrent(torrent_);
    params.trackers.clear();  // the job says which of them are used
    params.tracker_tiers.clear();
    params.url_seeds.clear();
    params.dht_nodes.clear();
    params.ti->clear_trackers();
    params.ti->clear_web_seeds();
    params.save_path = job.folder;
    params.storage_mode = lt::storage_mode_sparse;
    params.flags = torrent_flags(job);
    choose_files(params);
    existing_bytes_ = count_existing();
    make_empty_files();
    layers_saved_ =
        std::ranges::none_of(torrent_.layout.files, [&](const auto& file) { return needs_layer(file); });
    if (const std::string problem = read_resume_data(job.resume, params); !problem.empty())
      pipe.warn(problem);
    session_ = make_session(session_options(job));
    const std::vector<lt::download_priority_t> priorities = params.file_priorities;
    handle_ = session_->add_torrent(std::move(params));
    // The POSIX back end of 2.0.8 learns of unwanted files only in this way, and only then keeps their shares
    // of v1 pieces out of the folder.
    handle_.prioritize_files(priorities);
    introduce(job, *session_, handle_, pipe);
  }

  void run() {
    auto next_status = Clock::now();
    while (!pipe_.stop_requested()) {
      session_->wait_for_alert(milliseconds(50));
      handle_alerts();
      if (Clock::now() >= next_status) {
        next_status = Clock::now() + milliseconds(250);
        look_at_status();
      }
      if (ended_) return send_end("done");
      if (pieces_since_save_ > 0 && Clock::now() >= next_save_) request_save();
    }
    save_and_wait();
    send_end("stopped");
  }

 private:
  void choose_files(lt::add_torrent_params& params) {
    const std::set<std::uint64_t> unwanted(job_.unwanted.begin(), job_.unwanted.end());
    std::size_t ours = 0;
    const lt::file_storage& files = std::as_const(*params.ti).files();
    for (const lt::file_index_t index : files.file_range()) {
      params.file_priorities.push_back(lt::default_priority);
      if (files.pad_file_at(index)) continue;
      while (torrent_.layout.files[ours].pad) ++ours;
      if (unwanted.contains(ours)) {
        params.file_priorities.back() = lt::dont_download;
      } else {
        wanted_.push_back(index);
        wanted_bytes_ += torrent_.layout.files[ours].length_bytes;
      }
      paths_[index] = path_of(torrent_.layout.files[ours]);
      ours_[index] = ours;
      ++ours;
    }
  }

  [[nodiscard]] std::filesystem::path path_of(const format::ReleaseFile& file) const {
    const std::filesystem::path folder(job_.folder);
    return torrent_.layout.single_file ? folder / file.path : folder / torrent_.layout.name / file.path;
  }

  [[nodiscard]] std::uint64_t count_existing() const {
    std::uint64_t total = 0;
    for (const format::ReleaseFile& file : torrent_.layout.files) {
      std::error_code missing;
      const auto size = file.pad ? 0 : std::filesystem::file_size(path_of(file), missing);
      if (!missing) total += std::min<std::uint64_t>(size, file.length_bytes);
    }
    return total;
  }

  /// libtorrent makes them only when it looks at the files itself.
  void make_empty_files() const {
    for (const lt::file_index_t index : wanted_) {
      const auto& path = paths_.at(index);
      if (torrent_.layout.files[ours_.at(index)].length_bytes > 0 || std::filesystem::exists(path)) continue;
      base::make_directories(path.parent_path());
      static_cast<void>(base::File::create(path));
    }
  }

  void handle_alerts() {
    std::vector<lt::alert*> alerts;
    session_->pop_alerts(&alerts);
    for (lt::alert* alert : alerts) handle_alert(*alert);
  }

  void handle_alert(lt::alert& alert) {
    if (const auto* piece = lt::alert_cast<lt::piece_finished_alert>(&alert)) {
      ++pieces_since_save_;
      const auto& files = handle_files();
      for (const auto& slice : files.map_block(piece->piece_index, 0, files.piece_size(piece->piece_index)))
        if (!files.pad_file_at(slice.file_index)) unsynced_.insert(slice.file_index);
    } else if (auto* saved = lt::alert_cast<lt::save_resume_data_alert>(&alert)) {
      write_resume_data(saved->params);
    } else if (lt::alert_cast<lt::save_resume_data_failed_alert>(&alert) != nullptr) {
      save_pending_ = false;
    } else if (const auto* changed = lt::alert_cast<lt::state_changed_alert>(&alert)) {
      if (changed->state == lt::torrent_status::checking_files) {
        rehashed_bytes_ = existing_bytes_;
        for (const auto& [index, path] : paths_) unsynced_.insert(index);  // written by nobody knows whom
        ++pieces_since_save_;
      }
    } else if (const auto* bad = lt::alert_cast<lt::hash_failed_alert>(&alert)) {
      pipe_.warn("piece " + std::to_string(static_cast<int>(bad->piece_index)) +
                 " arrived damaged and is fetched again");
    } else if (const auto* rejected = lt::alert_cast<lt::fastresume_rejected_alert>(&alert)) {
      pipe_.warn("the files have changed since they were fetched and are checked again: " +
                 rejected->error.message());
    } else if (const auto* tracker = lt::alert_cast<lt::tracker_error_alert>(&alert)) {
      send_tracker_problem(*tracker, pipe_);
    } else if (const auto* file = lt::alert_cast<lt::file_error_alert>(&alert)) {
      fail_on_file(*file);
    } else if (const auto* broken = lt::alert_cast<lt::torrent_error_alert>(&alert)) {
      throw base::Error(base::ErrorKind::io,
                        std::string(broken->filename()) + ": " + broken->error.message());
    }
  }

  [[noreturn]] void fail_on_file(const lt::file_error_alert& alert) {
    const std::string path = alert.filename();
    const lt::error_code error = alert.error;
    if (!failing_) {
      failing_ = true;
      save_and_wait();
    }
    const bool system = error.category() == boost::system::system_category() ||
                        error.category() == boost::system::generic_category();
    if (system) base::throw_errno(path, "read or write", error.value());
    throw base::Error(base::ErrorKind::io, path + ": " + error.message());
  }

  [[nodiscard]] const lt::file_storage& handle_files() {
    if (!info_) info_ = handle_.torrent_file();
    return info_->files();
  }

  // ---- Progress ----

  void look_at_status() {
    const lt::torrent_status status = handle_.status({});
    downloaded_bytes_ = static_cast<std::uint64_t>(status.total_payload_download);
    const bool checking = status.state == lt::torrent_status::checking_files ||
                          status.state == lt::torrent_status::checking_resume_data;
    std::uint64_t done = 0;
    if (checking) {
      done = wanted_bytes_ / 1'000'000 * static_cast<std::uint64_t>(status.progress_ppm);
    } else {
      done = count_done(false);
    }
    if (!complete_ && !checking && status.is_finished && count_done(true) == wanted_bytes_) finish();
    send_status(status, checking, complete_ ? wanted_bytes_ : done);
    if (complete_ && seeding_done(status)) ended_ = true;
  }

  /// libtorrent's own totals can go past the files' lengths; these cannot.
  [[nodiscard]] std::uint64_t count_done(bool whole_pieces) const {
    const std::vector<std::int64_t> progress = handle_.file_progress(
        whole_pieces ? lt::torrent_handle::piece_granularity : lt::file_progress_flags_t{});
    std::uint64_t done = 0;
    for (const lt::file_index_t index : wanted_) {
      const auto at = static_cast<std::size_t>(static_cast<int>(index));
      if (at < progress.size())
        done += std::min(static_cast<std::uint64_t>(progress[at]),
                         torrent_.layout.files[ours_.at(index)].length_bytes);
    }
    return done;
  }

  void send_status(const lt::torrent_status& status, bool checking, std::uint64_t done) {
    pipe_.send(Json::object({{"event", "status"},
                             {"phase", checking    ? "checking"
                                       : complete_ ? "seeding"
                                                   : "fetching"},
                             {"done", done},
                             {"total", wanted_bytes_},
                             {"rate", status.download_payload_rate},
                             {"peers", status.num_peers},
                             {"seeds", status.num_seeds},
                             {"downloaded", downloaded_bytes_},
                             {"rehashed", rehashed_bytes_}}));
  }

  void finish() {
    complete_ = true;
    complete_since_ = Clock::now();
    save_and_wait();
  }

  [[nodiscard]] bool seeding_done(const lt::torrent_status& status) const {
    if (job_.seed_ratio <= 0 && job_.seed_time_min <= 0) return true;
    const double minutes = std::chrono::duration<double>(Clock::now() - complete_since_).count() / 60;
    if (job_.seed_time_min > 0 && minutes >= job_.seed_time_min) return true;
    return job_.seed_ratio > 0 && static_cast<double>(status.total_payload_upload) >=
                                      job_.seed_ratio * static_cast<double>(wanted_bytes_);
  }

  void send_end(const char* event) {
    pipe_.send(
        Json::object({{"event", event}, {"downloaded", downloaded_bytes_}, {"rehashed", rehashed_bytes_}}));
  }

  // ---- What is kept ----

  void request_save() {
    if (save_pending_) return;
    save_pending_ = true;
    save_start_ = Clock::now();
    handle_.save_resume_data(lt::torrent_handle::flush_disk_cache);
  }

  /// The files first, then the data that calls them finished: after a power loss the first without the second
  /// is harmless.
  void write_resume_data(lt::add_torrent_params& params) {
    pieces_since_save_ = 0;
    // Alerts come in order, so every piece in `params` has put its files in here.
    for (const lt::file_index_t index : std::exchange(unsynced_, {})) {
      const auto path = paths_.find(index);
      if (path != paths_.end() && std::filesystem::exists(path->second))
        base::File::open_update(path->second).sync();
    }
    save_piece_layers(params);
    params.merkle_trees.clear();  // large, and of no use: see read_resume_data
    params.merkle_tree_mask.clear();
    params.verified_leaf_hashes.clear();
    fetch::write_resume_data(job_.resume, params);
    save_pending_ = false;
    // On a slow disk, saving takes at most a tenth of the time.
    next_save_ = Clock::now() + std::max<Clock::duration>(kSavePause, 10 * (Clock::now() - save_start_));
  }

  void save_and_wait() {
    constexpr auto kPatience = std::chrono::seconds(60);
    const auto deadline = Clock::now() + kPatience;
    const auto wait = [&] {
      while (save_pending_ && Clock::now() < deadline) {
        session_->wait_for_alert(milliseconds(50));
        handle_alerts();
      }
    };
    wait();  // for one that is under way, which may lack the last pieces
    request_save();
    wait();
  }

  /// For the .torrent: without the layers nobody could share it. The parent checks them.
  void save_piece_layers(const lt::add_torrent_params& params) {
    if (layers_saved_) return;
    std::map<std::string, std::string> layers;
    bool all_known = true;
    for (const auto& [index, ours] : ours_) {
      const format::ReleaseFile& file = torrent_.layout.files[ours];
      if (!needs_layer(file)) continue;
      if (index >= params.merkle_trees.end_index() || index >= params.merkle_tree_mask.end_index()) return;
      const auto layer = find_piece_layer(params.merkle_trees[index], params.merkle_tree_mask[index],
                                          file.length_bytes, torrent_.layout.piece_bytes);
      all_known = all_known && !layer.empty();
      if (!layer.empty())
        layers.emplace(base::as_text(file.root->bytes), base::as_text(std::as_bytes(std::span(layer))));
    }
    if (!all_known && !complete_) return;
    std::string out = "d";
    for (const auto& [root, layer] : layers) {
      bencode::append(out, root);
      bencode::append(out, layer);
    }
    out += 'e';
    base::write_file(job_.result, base::as_bytes(out));
    layers_saved_ = all_known;
  }

  [[nodiscard]] bool needs_layer(const format::ReleaseFile& file) const {
    return file.root && file.length_bytes > torrent_.layout.piece_bytes && file.piece_layer.empty();
  }

  const WorkerJob& job_;
  WorkerPipe& pipe_;
  Torrent torrent_;
  std::unique_ptr<lt::session> session_;
  lt::torrent_handle handle_;
  std::shared_ptr<const lt::torrent_info> info_;
  std::vector<lt::file_index_t> wanted_;
  std::map<lt::file_index_t, std::filesystem::path> paths_;
  std::map<lt::file_index_t, std::size_t> ours_;  // index into torrent_.layout.files
  std::uint64_t wanted_bytes_ = 0;
  std::uint64_t existing_bytes_ = 0;
  std::uint64_t downloaded_bytes_ = 0;
  std::uint64_t rehashed_bytes_ = 0;
  std::set<lt::file_index_t> unsynced_;  // files with pieces that finished since the last save
  std::uint64_t pieces_since_save_ = 0;
  bool save_pending_ = false;
  Clock::time_point save_start_;
  Clock::time_point next_save_ = Clock::now();
  bool layers_saved_ = false;
  bool failing_ = false;
  bool complete_ = false;
  bool ended_ = false;
  Clock::time_point complete_since_;
};

}  // namespace

void run_payload_job(const WorkerJob& job, WorkerPipe& pipe) { PayloadWorker(job, pipe).run(); }

}  // namespace sluice::fetch
