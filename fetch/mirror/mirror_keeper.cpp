#include "fetch/mirror/mirror_keeper.h"

#include <algorithm>
#include <libtorrent/torrent_info.hpp>
#include <set>
#include <utility>

#include "base/text.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

/// A swarm that is faster needs no help.
constexpr std::uint64_t kSlowBytesPerS = 4u << 20;
/// A thread and a buffer each; a torrent can name a thousand.
constexpr std::size_t kSourcesMax = 16;

TransferActions to_actions(const lt::torrent_handle& torrent, WorkerPipe& pipe) {
  const auto to_lt = [](std::uint64_t piece) { return lt::piece_index_t(static_cast<int>(piece)); };
  const auto add = [=, file = torrent.torrent_file()](std::uint64_t piece, std::vector<char> bytes) {
    // It has padding also behind the last file of a v2 torrent, and refuses a piece without.
    bytes.resize(static_cast<std::size_t>(file->piece_size(to_lt(piece))));
    torrent.add_piece(to_lt(piece), std::move(bytes));
  };
  const auto reserve = [=](std::uint64_t piece, bool reserved) {
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

MirrorKeeper::MirrorKeeper(const WorkerJob& job, const format::ReleaseLayout& layout, const PieceMap& map,
                           const PieceJudge& judge, const PieceOrder& order,
                           const lt::torrent_handle& torrent, std::uint64_t memory_bytes, WorkerPipe& pipe)
    : job_(job),
      layout_(layout),
      map_(map),
      judge_(judge),
      torrent_(torrent),
      pipe_(pipe),
      sources_(to_sources(job, pipe)),
      customer_(order, map, to_actions(torrent, pipe), {.memory_bytes = memory_bytes}) {
  if (sources_.empty() || layout.piece_bytes <= memory_bytes) return;
  sources_.clear();
  pipe_.warn("mirrors and web seeds are not used: pieces of " + base::to_human_bytes(layout.piece_bytes) +
             " are too large for them within --memory " + base::to_human_bytes(job.memory_bytes));
}

void MirrorKeeper::update(std::vector<bool> durable, const lt::torrent_status& status) {
  if (sources_.empty() || !takes_pieces(status)) return;
  const std::uint64_t swarm = measure(status);
  const std::uint64_t left = left_of_limit(swarm);
  const std::uint64_t limit = job_.limit_down_bytes_per_s;
  const bool needed = swarm < kSlowBytesPerS && left >= limit / 8;
  std::set<std::uint64_t> begun;
  if (needed)
    for (const lt::partial_piece_info& piece : torrent_.get_download_queue())
      begun.insert(static_cast<std::uint64_t>(static_cast<int>(piece.piece_index)));
  customer_.update(std::move(durable), std::move(begun), needed);
  if (!pool_) start();
  // Not less than would make a server look as if it stalled.
  if (limit != 0) pool_->limit_down(std::max<std::uint64_t>({left, limit / 16, 1}));
}

/// The user's limit is for all that comes in; libtorrent keeps the swarm alone below it.
std::uint64_t MirrorKeeper::left_of_limit(std::uint64_t swarm_bytes_per_s) const {
  return job_.limit_down_bytes_per_s - std::min(job_.limit_down_bytes_per_s, swarm_bytes_per_s);
}

void MirrorKeeper::start() {
  MirrorOptions options;
  options.allow_private = job_.allow_private;
  options.limit_down_bytes_per_s = job_.limit_down_bytes_per_s;
  pool_.emplace(full_layout_ ? *full_layout_ : layout_, map_, full_judge_ ? *full_judge_ : judge_, sources_,
                options, customer_);
}

void MirrorKeeper::stop() {
  if (!pool_) return;
  ended_bytes_ += pool_->downloaded_bytes();
  pool_.reset();
  rate_ = 0;
}

void MirrorKeeper::use_layers(std::string_view layers) {
  if (sources_.empty() || judge_.wants_sha1()) return;
  stop();
  full_layout_ = layout_;
  add_piece_layers(*full_layout_, layers, "piece layers");
  full_judge_.emplace(*full_layout_, map_);
}

std::uint64_t MirrorKeeper::downloaded_bytes() const {
  return ended_bytes_ + (pool_ ? pool_->downloaded_bytes() : 0);
}

/// What the swarm brings in a second: lately and, since that is an average of some seconds, just now.
std::uint64_t MirrorKeeper::measure(const lt::torrent_status& status) {
  constexpr double kSmoothed_s = 2;
  const auto now = Clock::now();
  const double seconds = std::max(std::chrono::duration<double>(now - measured_at_).count(), 0.001);
  const auto rate_of = [&](std::uint64_t bytes, std::uint64_t before) {
    return static_cast<double>(bytes - std::min(bytes, before)) / seconds;
  };
  const auto swarm_bytes = static_cast<std::uint64_t>(status.total_payload_download);
  const auto swarm_now = static_cast<std::uint64_t>(rate_of(swarm_bytes, measured_swarm_bytes_));
  rate_ += (rate_of(downloaded_bytes(), measured_bytes_) - rate_) * std::min(1.0, seconds / kSmoothed_s);
  measured_at_ = now;
  measured_bytes_ = downloaded_bytes();
  measured_swarm_bytes_ = swarm_bytes;
  return std::max(swarm_now, static_cast<std::uint64_t>(std::max(status.download_payload_rate, 0)));
}

}  // namespace sluice::fetch
