// The worker's second job: fetches the files of a checked .torrent through our own disk layer and journal
// (fetch/disk/piece_store.h, fetch/disk/journal.h), so that a worker that is killed at any instant continues
// from the durable pieces.
//
// Threads: the main thread runs PayloadWorker::run(), which reads libtorrent's alerts, sends status events,
// and feeds the committer with partial pieces. libtorrent's network thread and the store's threads move
// blocks; the committer's thread calls record_durable(), and any of them record_failure(); the mutex guards
// what these change. Mirrors have threads of their own. Members are destroyed in reverse order, so the
// session ends before the store and the store before the committer.
//
// Invariant: a piece counts as done only when the committer has made it durable; what libtorrent believes to
// have does not count.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/extensions/ut_metadata.hpp>
#include <libtorrent/extensions/ut_pex.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>
#include <mutex>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/stopwatch.h"
#include "fetch/disk/piece_order.h"
#include "fetch/disk/resume.h"
#include "fetch/job/memory_budget.h"
#include "fetch/mirror/mirror_manager.h"
#include "fetch/swarm/disk_io.h"
#include "fetch/swarm/liar_finder.h"
#include "fetch/swarm/load_torrent.h"
#include "fetch/swarm/peer_gate.h"
#include "fetch/swarm/piece_layer_fetcher.h"
#include "fetch/swarm/session.h"
#include "fetch/swarm/session_manager.h"
#include "fetch/torrent/torrent_file.h"
#include "fetch/worker/job_options.h"
#include "fetch/worker/run_worker.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;
using base::Clock;
using format::Json;
using std::chrono::milliseconds;

// How long a seeder that has reached its ratio waits for libtorrent to send the blocks that are counted
// already.
constexpr auto kLastBlocksWait = milliseconds(3'000);
// How often the blocks of partial pieces are recorded in the journal. A kill loses at most what arrived since
// then.
constexpr auto kPartialPause = milliseconds(10'000);
// A v2 magnet link brings no piece layers. Peers that are still connected at the end get this long to send
// the last of them.
constexpr auto kPieceLayersWait = milliseconds(2'000);

StoreOptions store_options(const MemoryShares& shares, std::function<void(const base::Error&)> on_failure) {
  return {.thread_count = std::clamp(base::available_threads(), 2u, 4u),
          .memory_bytes = shares.store_bytes,
          .on_failure = std::move(on_failure)};
}

class PayloadWorker {
 public:
  // The order of the members is the order of these steps. place_files() reads wanted_ and storage_. The
  // constructor of the journal reads the existing records into journal_state_. The committer and the store
  // come after the journal, because their threads start at once.
  PayloadWorker(const WorkerJob& job, WorkerPipe& pipe)
      : job_(job),
        pipe_(pipe),
        torrent_(parse_torrent_file(base::read_text_file(job.torrent, kTorrentBytesMax), job.torrent)),
        shares_(share_memory(job.memory_bytes, torrent_.layout)),
        map_(torrent_.layout),
        verifier_(torrent_.layout, map_),
        wanted_(torrent_.layout.files.size(), true),
        storage_(open_storage(job.folder)),
        files_(*storage_, map_, place_files()),
        journal_state_(map_, verifier_, torrent_.layout.files.size()),
        journal_(*storage_, job.journal, torrent_.layout,
                 [this](const JournalRecord& record) { journal_state_.take(record); }),
        committer_(files_, map_, journal_,
                   {.on_durable = [this](std::span<const std::uint64_t> pieces) { record_durable(pieces); },
                    .on_failure = [this](const base::Error& error) { record_failure(error); }}),
        store_(files_, map_, verifier_, &committer_,
               store_options(shares_, [this](const base::Error& error) { record_failure(error); })),
        order_(torrent_.layout, map_, wanted_, wanted_pieces()) {
    // Bytes of wanted files only: a piece can also hold bytes of unwanted ones.
    for (const std::uint32_t piece : order_.pieces()) wanted_bytes_ += order_.wanted_bytes(piece);
  }

  // The disk is checked before the session starts, because libtorrent takes over the list of present pieces
  // and does not look at the files itself (set_pieces()).
  void run() {
    if (!check_disk()) return send_end("stopped");
    start_session();
    auto next_status = Clock::now();
    while (!pipe_.stop_requested()) {
      session_->wait_for_alert(milliseconds(50));
      handle_alerts();
      session_manager_->tick();
      throw_failure();
      // Complete means durable: libtorrent may consider itself finished before the last pieces are on the
      // disk.
      if (!complete_ && missing_pieces() == 0) finish();
      if (Clock::now() >= next_status || complete_) {
        next_status = Clock::now() + milliseconds(250);
        poll_status();
      }
      if (ended_) break;
      if (Clock::now() >= next_partial_) {
        next_partial_ = Clock::now() + kPartialPause;
        committer_.add_partial(store_.take_partial());
      }
      layer_fetcher_->tick();
    }
    // In this order: mirrors add pieces to the session, the session writes to the store, and the store hands
    // pieces to the committer. Each must be quiet before the next one is closed.
    mirrors_->stop();
    wait_for_piece_layers();
    session_manager_.reset();
    session_.reset();
    committer_.add_partial(store_.take_partial());
    committer_.close_files();
    throw_failure();
    send_end(ended_ ? "done" : "stopped");
  }

 private:
  // ---- Files ----

  /// The path of each file: in the release's folder when it is wanted or exists there, else among the parts
  /// in .sluice.
  [[nodiscard]] std::vector<fs::path> place_files() {
    for (const std::uint64_t index : job_.unwanted) wanted_.at(index) = false;
    const std::set<std::uint64_t> apart(job_.apart.begin(), job_.apart.end());
    std::vector<fs::path> paths;
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      const format::ReleaseFile& file = torrent_.layout.files[i];
      fs::path path =
          torrent_.layout.single_file ? fs::path(file.path) : torrent_.layout.name / fs::path(file.path);
      const fs::path part = fs::path(job_.parts) / std::to_string(i);
      if (apart.contains(i) && !wanted_[i]) {
        path = part;
      } else if (!file.pad && !storage_->find(path)) {
        // A file that was unwanted in an earlier fetch and is wanted now is moved out of the parts with its
        // bytes.
        if (!wanted_[i]) {
          path = part;
        } else if (storage_->find(part)) {
          storage_->rename(part, path);
        }
      }
      paths.push_back(std::move(path));
    }
    return paths;
  }

  /// The pieces that the job names, which only a repair does. An empty result means every piece of the wanted
  /// files.
  [[nodiscard]] std::vector<bool> wanted_pieces() const {
    if (job_.pieces.empty()) return {};
    std::vector<bool> wanted(map_.piece_count(), false);
    for (const auto& [first, last] : job_.pieces)
      for (std::uint64_t piece = first; piece < last; ++piece) wanted.at(piece) = true;
    return wanted;
  }

  /// Finds the pieces on the disk. Returns false when a stop was requested meanwhile.
  bool check_disk() {
    std::atomic<bool> stopped = false;
    std::mutex mutex;
    auto next_status = Clock::now();
    // The threads that hash call on_progress. The pipe's stop_requested() belongs to one thread at a time, so
    // it is called under the mutex, and the others read its result from `stopped`.
    const ResumeObserver observer{.on_progress =
                                      [&](std::uint64_t done, std::uint64_t total) {
                                        const std::lock_guard lock(mutex);
                                        stopped = stopped || pipe_.stop_requested();
                                        if (Clock::now() < next_status) return;
                                        next_status = Clock::now() + milliseconds(250);
                                        rehashed_bytes_ = done;
                                        send_status("checking", done, total, {});
                                      },
                                  .on_warning = [&](const std::string& message) { pipe_.warn(message); },
                                  .stop_requested = [&] { return stopped.load(); }};
    const Resumed resumed = resume(torrent_.layout, map_, verifier_, journal_state_, files_, store_,
                                   committer_, base::available_threads(), job_.recheck, observer);
    committer_.flush();
    throw_failure();
    rehashed_bytes_ = resumed.rehashed_bytes;
    count_present(resumed);
    if (stopped) return false;
    partial_ = resumed.partial;
    // Before the session starts: restore() must come before libtorrent's first request for the piece.
    for (const PartialPiece& piece : partial_) store_.restore(piece);
    {
      const std::lock_guard lock(mutex_);
      durable_ = resumed.verified;
      recount();
    }
    prepare_files();
    return true;
  }

  void count_present(const Resumed& resumed) {
    believed_bytes_ = 0;
    for (const std::uint32_t piece : order_.pieces()) {
      if (resumed.adopted[piece]) adopted_bytes_ += order_.wanted_bytes(piece);
      if (!resumed.believed[piece]) continue;
      *believed_bytes_ += order_.wanted_bytes(piece);
      ++believed_pieces_;
    }
  }

  /// Adds the counts that every event has.
  void add_counts(Json& event) const {
    event.set("downloaded", downloaded_bytes_);
    event.set("rehashed", rehashed_bytes_);
    event.set("adopted", adopted_bytes_);
    if (!believed_bytes_) return;
    event.set("believed", *believed_bytes_);
    event.set("believed_pieces", believed_pieces_);
  }

  /// Creates empty files, which no piece would create, and cuts files that are too long.
  void prepare_files() {
    std::vector<std::size_t> to_write;
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      const format::ReleaseFile& file = torrent_.layout.files[i];
      if (file.pad) continue;
      const auto found = files_.find(i);
      if (wanted_[i] && !found && file.length_bytes == 0) static_cast<void>(files_.open_for_writing(i));
      // Also a file that nothing will be written to is opened, unless the journal has closed it:
      // close_files() writes a stamp only for opened files, and without a stamp the next fetch would hash the
      // file again.
      if (will_be_written(i) || too_long(i) || (found && !known_closed(i))) to_write.push_back(i);
    }
    // Before the first change: the journal must call a file open while its size or time can change.
    committer_.open_files(to_write);
    for (const std::size_t i : to_write) {
      if (!too_long(i)) continue;
      pipe_.warn(files_.path(i).string() + ": is longer than the release's file, and is cut");
      files_.open_for_writing(i)->resize(torrent_.layout.files[i].length_bytes);
    }
  }

  /// True also when a piece is needed only by another file that shares it.
  [[nodiscard]] bool will_be_written(std::size_t file) const {
    const auto [first, last] = map_.pieces_of(file);
    for (std::uint64_t piece = first; piece < last; ++piece)
      if (order_.wanted(piece) && !durable_[piece]) return true;
    return false;
  }

  [[nodiscard]] bool too_long(std::size_t file) const {
    const auto found = files_.find(file);
    return wanted_[file] && found && found->size_bytes > torrent_.layout.files[file].length_bytes;
  }

  [[nodiscard]] bool known_closed(std::size_t file) const {
    return journal_state_.file(file).state == JournalState::File::State::closed;
  }

  // ---- The transfer ----

  void start_session() {
    lt::add_torrent_params params = load_torrent(torrent_, job_.v1_only ? 0 : shares_.tree_bytes);
    // libtorrent read these from the .torrent, and would contact addresses that nobody has checked.
    params.trackers.clear();  // the job says which of them are used
    params.tracker_tiers.clear();
    params.url_seeds.clear();
    params.dht_nodes.clear();
    params.ti->clear_trackers();
    params.ti->clear_web_seeds();
    params.save_path = job_.folder;
    params.flags = torrent_flags(job_);
    set_pieces(params);
    proven_ = durable_pieces();
    const auto gate = std::make_shared<PeerGate>();
    const auto liar_finder = std::make_shared<LiarFinder>(
        gate, [this](std::uint64_t piece) { return store_.block_digests_on_disk(piece); });
    add_plugins(params, gate, liar_finder);
    SessionOptions options = session_options(job_, shares_, pipe_);
    options.plugins = false;  // add_plugins() has chosen
    options.disk_io = make_disk_io(
        store_, [this, liar_finder](const lt::disk_observer* from, std::uint64_t piece, std::uint64_t block) {
          liar_finder->record(from, piece, block, base::divide_up(map_.piece_bytes(piece), kBlockBytes));
        });
    session_ = make_session(options);
    const std::shared_ptr<const lt::torrent_info> info = params.ti;
    handle_ = session_->add_torrent(std::move(params));
    session_manager_.emplace(job_, *session_, handle_, gate, pipe_);
    mirrors_.emplace(job_, torrent_.layout, map_, verifier_, order_, handle_, shares_.mirror_bytes, pipe_);
    layer_fetcher_.emplace(torrent_.layout, info->files(), handle_, job_.result,
                           [this](std::string_view layers) { mirrors_->use_layers(layers); });
  }

  /// The gate comes first: a peer that it refuses must not reach the others. smart_ban is left out
  /// (fetch/swarm/liar_finder.h).
  void add_plugins(lt::add_torrent_params& params, const std::shared_ptr<PeerGate>& gate,
                   const std::shared_ptr<LiarFinder>& liar_finder) const {
    params.extensions.emplace_back([gate](const lt::torrent_handle&, lt::client_data_t) { return gate; });
    params.extensions.emplace_back(
        [liar_finder](const lt::torrent_handle&, lt::client_data_t) { return liar_finder; });
    params.extensions.emplace_back(&lt::create_ut_metadata_plugin);
    if (job_.pex) params.extensions.emplace_back(&lt::create_ut_pex_plugin);
  }

  void set_pieces(lt::add_torrent_params& params) {
    const auto count = static_cast<int>(map_.piece_count());
    params.have_pieces.resize(count, false);
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < count; ++i) {
      const auto piece = static_cast<std::size_t>(i);
      if (durable_[piece]) params.have_pieces.set_bit(lt::piece_index_t(i));
      // A priority of zero keeps libtorrent from requesting a piece. Mirrors ask order_ instead, so both
      // agree.
      params.piece_priorities.push_back(order_.wanted(piece) ? lt::default_priority : lt::dont_download);
    }
    for (const PartialPiece& partial : partial_) {
      auto& blocks = params.unfinished_pieces[lt::piece_index_t(static_cast<int>(partial.index))];
      blocks.resize(static_cast<int>(partial.blocks.size()), false);
      for (std::size_t i = 0; i < partial.blocks.size(); ++i)
        if (partial.blocks[i]) blocks.set_bit(static_cast<int>(i));
    }
    // The flag makes libtorrent accept have_pieces without a check of the files.
    if (params.have_pieces.none_set() && partial_.empty())
      params.have_pieces.clear();
    else
      params.flags |= lt::torrent_flags::no_verify_files;
  }

  void handle_alerts() {
    std::vector<lt::alert*> alerts;
    session_->pop_alerts(&alerts);  // valid until the next call
    for (lt::alert* alert : alerts) handle_alert(*alert);
  }

  void handle_alert(lt::alert& alert) {
    if (layer_fetcher_->handle(alert)) return;
    if (const auto* bad = lt::alert_cast<lt::hash_failed_alert>(&alert)) {
      const auto piece = static_cast<std::uint64_t>(static_cast<int>(bad->piece_index));
      // Only libtorrent knows which peers sent the piece and bans them. The piece's claim by a mirror is
      // void.
      pipe_.warn("piece " + std::to_string(piece) + " arrived damaged and is fetched again");
      record_wrong(piece);
      mirrors_->record_lost(piece);
    } else if (const auto* right = lt::alert_cast<lt::piece_finished_alert>(&alert)) {
      record_proven(static_cast<std::uint64_t>(static_cast<int>(right->piece_index)));
    } else if (const auto* file = lt::alert_cast<lt::file_error_alert>(&alert)) {
      throw_failure();  // the disk layer's message says more than libtorrent's
      throw base::Error(base::ErrorKind::io, std::string(file->filename()) + ": " + file->error.message());
    } else if (const auto* broken = lt::alert_cast<lt::torrent_error_alert>(&alert)) {
      throw_failure();
      if (broken->error == lt::errors::torrent_inconsistent_hashes)
        throw base::Error(base::ErrorKind::io, std::string(kHashesDiffer));
      throw base::Error(base::ErrorKind::io,
                        std::string(broken->filename()) + ": " + broken->error.message());
    } else {
      session_manager_->handle(alert);
    }
  }

  // ---- Durable pieces; record_durable() is called by the committer's thread ----

  void record_durable(std::span<const std::uint64_t> pieces) {
    const std::lock_guard lock(mutex_);
    for (const std::uint64_t piece : pieces) {
      if (durable_.empty() || durable_[piece]) continue;  // empty while resume() runs, which counts itself
      durable_[piece] = true;
      durable_bytes_ += order_.wanted_bytes(piece);
      if (order_.wanted(piece)) --missing_pieces_;
    }
  }

  void record_proven(std::uint64_t piece) {
    if (proven_.at(piece) || !order_.wanted(piece)) return;
    proven_[piece] = true;
    proven_bytes_ += order_.wanted_bytes(piece);
  }

  /// Takes back a piece that libtorrent found wrong. This happens only before the piece's hash is known to
  /// us: with the hash the store never commits a wrong piece, so a durable one was fetched again later and is
  /// right.
  void record_wrong(std::uint64_t piece) {
    if (verifier_.verify(piece, {}) != MatchResult::unknown) return;
    // The committer may be about to record the piece as durable. After flush() it has done so, and the loss
    // comes behind it in the journal, where the later record wins.
    committer_.flush();
    const std::lock_guard lock(mutex_);
    if (!durable_[piece]) return;
    durable_[piece] = false;
    recount();
    committer_.lose_pieces({{piece}});
  }

  void recount() {
    missing_pieces_ = 0;
    durable_bytes_ = 0;
    for (std::uint64_t piece = 0; piece < durable_.size(); ++piece) {
      if (durable_[piece])
        durable_bytes_ += order_.wanted_bytes(piece);
      else if (order_.wanted(piece))
        ++missing_pieces_;
    }
  }

  [[nodiscard]] std::vector<bool> durable_pieces() {
    const std::lock_guard lock(mutex_);
    return durable_;
  }

  [[nodiscard]] std::uint64_t missing_pieces() {
    const std::lock_guard lock(mutex_);
    return missing_pieces_;
  }

  void record_failure(const base::Error& error) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = error;  // the first failure is the cause of the others
  }

  void throw_failure() {
    const std::lock_guard lock(mutex_);
    if (failure_) throw *failure_;
  }

  // ---- Progress ----

  void poll_status() {
    lt::torrent_status status = handle_.status(lt::torrent_handle::query_distributed_copies);
    status.num_peers = count_peers(handle_);
    if (!complete_) mirrors_->update(durable_pieces(), status);
    // libtorrent counts what peers sent; the pieces that mirrors added are not among these bytes.
    downloaded_bytes_ =
        static_cast<std::uint64_t>(status.total_payload_download) + mirrors_->downloaded_bytes();
    std::uint64_t done = wanted_bytes_;
    if (!complete_) {
      const std::lock_guard lock(mutex_);
      // Partial pieces count for the display; near the end they can hold bytes of unwanted files.
      done = std::min(durable_bytes_ + store_.unfinished_bytes(), wanted_bytes_);
      if (const auto pieces = order_.next(durable_); !pieces.empty()) prefer(pieces);
    }
    ended_ = complete_ && seeding_done(status);
    send_status(complete_ && !ended_ ? "seeding" : "fetching", done, wanted_bytes_, status);
  }

  /// Requests these pieces before the others. libtorrent takes the rarest first within equal priorities.
  void prefer(const std::vector<std::uint64_t>& pieces) {
    std::vector<std::pair<lt::piece_index_t, lt::download_priority_t>> priorities;
    for (const std::uint64_t piece : pieces)
      priorities.emplace_back(lt::piece_index_t(static_cast<int>(piece)), lt::top_priority);
    handle_.prioritize_pieces(priorities);
  }

  /// The download rate; once the release is complete, the upload rate.
  [[nodiscard]] std::uint64_t rate_bytes_per_s(const lt::torrent_status& status) const {
    if (complete_) return static_cast<std::uint64_t>(std::max(status.upload_payload_rate, 0));
    return static_cast<std::uint64_t>(std::max(status.download_payload_rate, 0)) +
           (mirrors_ ? mirrors_->rate_bytes_per_s() : 0);
  }

  void send_status(const char* phase, std::uint64_t done, std::uint64_t total,
                   const lt::torrent_status& status) {
    Json event = Json::object({{"event", "status"},
                               {"phase", phase},
                               {"done", done},
                               {"total", total},
                               {"rate", rate_bytes_per_s(status)},
                               {"peers", status.num_peers},
                               {"seeds", status.num_seeds},
                               {"proven", proven_bytes_},
                               {"unproven", done + (mirrors_ ? mirrors_->downloaded_bytes() : 0)}});
    add_counts(event);
    if (status.distributed_copies >= 0)
      event.set("availability", static_cast<double>(status.distributed_copies));
    add_swarm(event, status);
    pipe_.send(event);
  }

  void finish() {
    complete_ = true;
    complete_since_ = Clock::now();
    // The mirrors end first, since none of their pieces is needed; close_files() then stamps files that
    // nobody writes to.
    mirrors_->stop();
    committer_.close_files();
    wait_for_piece_layers();
  }

  /// True when the ratio or the time is reached, whichever comes first; without either the worker does not
  /// share.
  [[nodiscard]] bool seeding_done(const lt::torrent_status& status) {
    if (job_.seed_ratio <= 0 && job_.seed_time_min <= 0) return true;
    const double minutes = base::seconds_since(complete_since_) / 60;
    if (job_.seed_time_min > 0 && minutes >= job_.seed_time_min) return true;
    const bool reached = job_.seed_ratio > 0 && static_cast<double>(status.total_payload_upload) >=
                                                    job_.seed_ratio * static_cast<double>(wanted_bytes_);
    if (reached && !ratio_reached_) ratio_reached_ = Clock::now();
    // libtorrent counts a block before it is sent, so wait until the last ones have left.
    return ratio_reached_ && (status.num_peers == 0 || Clock::now() - *ratio_reached_ > kLastBlocksWait);
  }

  void send_end(const char* event) {
    Json json = Json::object({{"event", event}});
    add_counts(json);
    pipe_.send(json);
  }

  /// Waits briefly for missing piece layers, because the peers are about to be disconnected.
  void wait_for_piece_layers() {
    const auto deadline = Clock::now() + kPieceLayersWait;
    layer_fetcher_->hurry();
    while (!layer_fetcher_->complete() && Clock::now() < deadline) {
      layer_fetcher_->tick();
      session_->wait_for_alert(milliseconds(100));
      handle_alerts();
    }
  }

  const WorkerJob& job_;
  WorkerPipe& pipe_;
  Torrent torrent_;
  MemoryShares shares_;
  PieceMap map_;
  PieceVerifier verifier_;
  std::vector<bool> wanted_;  // per file
  std::uint64_t wanted_bytes_ = 0;
  std::uint64_t downloaded_bytes_ = 0;
  std::uint64_t rehashed_bytes_ = 0;
  std::vector<bool> proven_;        // per piece: was there at the start, or libtorrent has verified it since
  std::uint64_t proven_bytes_ = 0;  // verified since the start
  std::uint64_t adopted_bytes_ = 0;
  std::optional<std::uint64_t> believed_bytes_;  // set by check_disk()
  std::uint64_t believed_pieces_ = 0;

  std::mutex mutex_;           // guards the members up to failure_
  std::vector<bool> durable_;  // per piece; empty before check_disk()
  std::uint64_t durable_bytes_ = 0;
  std::uint64_t missing_pieces_ = 0;
  std::optional<base::Error> failure_;

  std::unique_ptr<Storage> storage_;
  ReleaseFiles files_;
  JournalState journal_state_;
  Journal journal_;
  PieceCommitter committer_;
  PieceStore store_;
  PieceOrder order_;
  std::unique_ptr<lt::session> session_;  // uses the store
  lt::torrent_handle handle_;
  std::optional<SessionManager> session_manager_;   // uses the session
  std::optional<MirrorManager> mirrors_;            // uses the session
  std::optional<PieceLayerFetcher> layer_fetcher_;  // uses the session
  std::vector<PartialPiece> partial_;               // at the start

  Clock::time_point next_partial_ = Clock::now() + kPartialPause;
  bool complete_ = false;
  bool ended_ = false;
  Clock::time_point complete_since_;
  std::optional<Clock::time_point> ratio_reached_;
};

}  // namespace

void run_payload_job(const WorkerJob& job, WorkerPipe& pipe) { PayloadWorker(job, pipe).run(); }

}  // namespace sluice::fetch
