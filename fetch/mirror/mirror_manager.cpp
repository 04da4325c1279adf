// Called by the worker's main thread alone, about four times a second. It measures the swarm and decides
// whether mirrors are needed; the mirrors' threads reach libtorrent through TransferActions, whose functions
// are thread-safe.

#include "fetch/mirror/mirror_manager.h"

#include <algorithm>
#include <libtorrent/torrent_info.hpp>
#include <set>
#include <utility>

#include "base/stopwatch.h"
#include "base/text.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

/// A faster swarm needs no help from mirrors.
constexpr std::uint64_t kSlowBytesPerS = 4u << 20;
/// Each source takes a thread and a buffer, and a torrent can name a thousand.
constexpr std::size_t kSourcesMax = 16;

TransferActions to_actions(const lt::torrent_handle& torrent, WorkerPipe& pipe) {
  const auto to_lt = [](std::uint64_t piece) { return lt::piece_index_t(static_cast<int>(piece)); };
  const auto add = [=, file = torrent.torrent_file()](std::uint64_t piece, std::vector<char> bytes) {
    // libtorrent pads the last file of a v2 torrent, too, and refuses a piece without the padding.
    bytes.resize(static_cast<std::size_t>(file->piece_size(to_lt(piece))));
    torrent.add_piece(to_lt(piece), std::move(bytes));
  };
  const auto reserve = [=](std::uint64_t piece, bool reserved) {
    // Low and not zero: peers may still fetch the piece when they have nothing else to do.
    torrent.piece_priority(to_lt(piece), reserved ? lt::low_priority : lt::top_priority);
  };
  return {
      .add = add, .reserve = reserve, .warn = [&pipe](const std::string& message) { pipe.warn(message); }};
}

std::vector<MirrorSource> to_sources(const WorkerJob& job, WorkerPipe& pipe) {
  std::vector<MirrorSource> sources;
  for (const Endpoint& mirror : job.mirrors) sources.push_back({mirror, UrlRule::mirror});
  for (const Endpoint& web_seed : job.web_seeds) {
    if (sources.size() >= kSourcesMax) {
      pipe.warn("of the torrent's web seeds only the first are used: " + std::to_string(kSourcesMax) +
                " servers are asked at a time");
      break;
    }
    sources.push_back({web_seed, UrlRule::web_seed});
  }
  return sources;
}

bool takes_pieces(const lt::torrent_status& status) {
  return status.state == lt::torrent_status::downloading || status.state == lt::torrent_status::finished;
}

}  // namespace

MirrorManager::MirrorManager(const WorkerJob& job, const format::ReleaseLayout& layout, const PieceMap& map,
                             const PieceVerifier& verifier, const PieceOrder& order,
                             const lt::torrent_handle& torrent, std::uint64_t memory_bytes, WorkerPipe& pipe)
    : job_(job),
      layout_(layout),
      map_(map),
      verifier_(verifier),
      torrent_(torrent),
      pipe_(pipe),
      sources_(to_sources(job, pipe)),
      scheduler_(order, map, to_actions(torrent, pipe), {.memory_bytes = memory_bytes}) {
  if (sources_.empty() || layout.piece_bytes <= memory_bytes) return;
  sources_.clear();
  pipe_.warn("mirrors and web seeds are not used: pieces of " + base::to_human_bytes(layout.piece_bytes) +
             " are too large for them within --memory " + base::to_human_bytes(job.memory_bytes));
}

void MirrorManager::update(std::vector<bool> durable, const lt::torrent_status& status) {
  if (sources_.empty() || !takes_pieces(status)) return;
  const std::uint64_t swarm = measure(status);
  const std::uint64_t left = left_of_limit(swarm);
  const std::uint64_t limit = job_.limit_down_bytes_per_s;
  // Less than an eighth of the user's limit is not worth the requests.
  const bool needed = swarm < kSlowBytesPerS && left >= limit / 8;
  std::set<std::uint64_t> partial;
  // The download queue is a list of all pieces in progress, which is worth asking for only if a mirror could
  // use it.
  if (needed)
    for (const lt::partial_piece_info& piece : torrent_.get_download_queue())
      partial.insert(static_cast<std::uint64_t>(static_cast<int>(piece.piece_index)));
  scheduler_.update(std::move(durable), std::move(partial), needed);
  if (!pool_) start();
  // A lower limit would make a server look stalled.
  if (limit != 0) pool_->limit_down(std::max<std::uint64_t>({left, limit / 16, 1}));
}

/// The user's limit covers all downloads, but libtorrent applies it to the swarm alone.
std::uint64_t MirrorManager::left_of_limit(std::uint64_t swarm_bytes_per_s) const {
  return job_.limit_down_bytes_per_s - std::min(job_.limit_down_bytes_per_s, swarm_bytes_per_s);
}

void MirrorManager::start() {
  MirrorOptions options;
  options.allow_private = job_.allow_private;
  options.limit_down_bytes_per_s = job_.limit_down_bytes_per_s;
  pool_.emplace(full_layout_ ? *full_layout_ : layout_, map_, full_verifier_ ? *full_verifier_ : verifier_,
                sources_, options, scheduler_);
}

void MirrorManager::stop() {
  if (!pool_) return;
  ended_bytes_ += pool_->downloaded_bytes();
  pool_.reset();
  rate_ = 0;
}

void MirrorManager::use_layers(std::string_view layers) {
  // A hybrid torrent's pieces are verified by SHA-1 from the start.
  if (sources_.empty() || verifier_.uses_sha1()) return;
  // The pool's threads read the layout, so it is replaced by a copy while no pool runs; update() starts a new
  // pool.
  stop();
  full_layout_ = layout_;
  add_piece_layers(*full_layout_, layers, "piece layers");
  full_verifier_.emplace(*full_layout_, map_);
}

std::uint64_t MirrorManager::downloaded_bytes() const {
  return ended_bytes_ + (pool_ ? pool_->downloaded_bytes() : 0);
}

/// The swarm's rate: the larger of libtorrent's average over some seconds and the rate since the last call.
std::uint64_t MirrorManager::measure(const lt::torrent_status& status) {
  constexpr double kSmoothed_s = 2;
  const auto now = Clock::now();
  const double seconds = std::max(base::to_seconds(now - measured_at_), 0.001);
  const auto rate_of = [&](std::uint64_t bytes, std::uint64_t before) {
    return static_cast<double>(bytes - std::min(bytes, before)) / seconds;
  };
  const auto swarm_bytes = static_cast<std::uint64_t>(status.total_payload_download);
  const auto swarm_now = static_cast<std::uint64_t>(rate_of(swarm_bytes, measured_swarm_bytes_));
  // Exponential smoothing over about kSmoothed_s, whatever the pauses between the calls are.
  rate_ += (rate_of(downloaded_bytes(), measured_bytes_) - rate_) * std::min(1.0, seconds / kSmoothed_s);
  measured_at_ = now;
  measured_bytes_ = downloaded_bytes();
  measured_swarm_bytes_ = swarm_bytes;
  return std::max(swarm_now, static_cast<std::uint64_t>(std::max(status.download_payload_rate, 0)));
}

}  // namespace sluice::fetch
