#include "fetch/disk/resume.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>

#include "base/parallel.h"

namespace sluice::fetch {
namespace {

constexpr std::uint64_t kSampleBytes = 8u << 20;
constexpr std::uint64_t kSamplesMax = 16;
constexpr std::size_t kUnjudgedMax = 16'384;  // they are held in memory until they are hashed

class Resume {
 public:
  Resume(const format::ReleaseLayout& layout, const PieceMap& map, const PieceJudge& judge,
         const JournalState& journal, ReleaseFiles& files, const PieceStore& store, Committer& committer,
         const ResumeObserver& observer)
      : layout_(layout),
        map_(map),
        judge_(judge),
        journal_(journal),
        files_(files),
        store_(store),
        committer_(committer),
        observer_(observer) {
    result_.proven = journal.proven();
    begun_ = journal.begun();
    to_check_.resize(result_.proven.size(), false);
  }

  Resumed run(unsigned thread_count) {
    for (std::size_t i = 0; i < layout_.files.size(); ++i)
      if (!layout_.files[i].pad && layout_.files[i].length_bytes > 0) look_at_file(i);
    sample();
    check(thread_count);
    forget_checked_blocks();
    committer_.lose_pieces(lost_);
    if (lost_proven_ > 0)
      observer_.on_warning("files have changed since they were fetched; " + std::to_string(lost_proven_) +
                           " pieces are fetched again");
    for (auto& [piece, blocks] : begun_)
      if (std::ranges::find(blocks, true) != blocks.end())
        result_.begun.push_back({piece, std::move(blocks)});
    return std::move(result_);
  }

 private:
  void look_at_file(std::size_t index) {
    const auto found = files_.find(index);
    const JournalState::File& known = journal_.file(index);
    if (!found) {
      const auto [first, last] = map_.pieces_of(index);
      for (std::uint64_t piece = first; piece < last; ++piece) {
        lose(piece);
        forget_blocks(piece);
      }
      return;
    }
    switch (known.state) {
      case JournalState::File::State::unknown:
        if (found->size_bytes > 0) check_file(index, "");
        break;
      case JournalState::File::State::closed:
        if (*found != known.stamp) check_file(index, "has changed since it was fetched");
        break;
      case JournalState::File::State::opened:
        if (found->size_bytes < proven_end_bytes(index)) check_file(index, "is shorter than it was");
        break;
    }
  }

  /// How long the file must be to hold what is proven of it.
  [[nodiscard]] std::uint64_t proven_end_bytes(std::size_t index) const {
    const auto [first, last] = map_.pieces_of(index);
    for (std::uint64_t piece = last; piece > first; --piece) {
      if (!result_.proven[piece - 1]) continue;
      for (const PieceSlice& slice : map_.slices(piece - 1))
        if (slice.file_index == index) return slice.file_offset_bytes + slice.length_bytes;
    }
    return 0;
  }

  void check_file(std::size_t index, const std::string& why) {
    if (!why.empty())
      observer_.on_warning(files_.path(index).string() + ": " + why + "; it is checked again");
    const auto [first, last] = map_.pieces_of(index);
    for (std::uint64_t piece = first; piece < last; ++piece) to_check_[piece] = true;
  }

  void lose(std::uint64_t piece) {
    if (!result_.proven[piece]) return;
    result_.proven[piece] = false;
    lost_.push_back(piece);
    ++lost_proven_;
  }

  void forget_blocks(std::uint64_t piece) {
    if (begun_.erase(piece) > 0 && !result_.proven[piece]) lost_.push_back(piece);
  }

  void forget_checked_blocks() {
    for (auto begun = begun_.begin(); begun != begun_.end();) {
      const std::uint64_t piece = (begun++)->first;
      if (to_check_[piece]) forget_blocks(piece);
    }
  }

  /// A few proven pieces at random: what the journal says must still be so.
  void sample() {
    std::vector<std::uint32_t> known;
    for (std::uint32_t piece = 0; piece < result_.proven.size(); ++piece)
      if (result_.proven[piece] && !to_check_[piece]) known.push_back(piece);
    std::vector<std::uint32_t> chosen;
    const std::uint64_t count = std::clamp<std::uint64_t>(kSampleBytes / layout_.piece_bytes, 1, kSamplesMax);
    std::ranges::sample(known, std::back_inserter(chosen), static_cast<std::ptrdiff_t>(count),
                        std::mt19937_64(std::random_device()()));
    for (const std::uint32_t piece : chosen) {
      result_.sampled_bytes += payload_bytes(piece);
      if (is_right(piece)) continue;
      for (const PieceSlice& slice : map_.slices(piece))
        check_file(slice.file_index, "does not hold what the journal says");
    }
    result_.rehashed_bytes += result_.sampled_bytes;
  }

  /// Without padding.
  [[nodiscard]] std::uint64_t payload_bytes(std::uint64_t piece) const {
    std::uint64_t total = 0;
    for (const PieceSlice& slice : map_.slices(piece)) total += slice.length_bytes;
    return total;
  }

  [[nodiscard]] bool is_right(std::uint64_t piece) const {
    const auto digest = store_.digest_on_disk(piece);
    return digest && judge_.judge(piece, *digest) == Verdict::right;
  }

  void check(unsigned thread_count) {
    std::vector<std::uint32_t> pieces;
    std::uint64_t total_bytes = 0;
    for (std::uint32_t piece = 0; piece < to_check_.size(); ++piece) {
      if (!to_check_[piece]) continue;
      pieces.push_back(piece);
      total_bytes += payload_bytes(piece);
    }
    if (pieces.empty()) return;
    std::atomic<std::uint64_t> done_bytes = 0;
    std::mutex mutex;
    base::WorkerPool pool(thread_count);
    pool.run(pieces.size(), [&](std::size_t task, unsigned) {
      if (observer_.stop_requested()) return;
      const std::uint64_t piece = pieces[task];
      const auto digest = store_.digest_on_disk(piece);
      const bool right = digest && judge_.judge(piece, *digest) == Verdict::right;
      observer_.on_progress(done_bytes += payload_bytes(piece), total_bytes);
      const std::lock_guard lock(mutex);
      if (!right) return lose(piece);
      result_.proven[piece] = true;
      committer_.add(piece, *digest);
    });
    result_.rehashed_bytes += done_bytes;
  }

  const format::ReleaseLayout& layout_;
  const PieceMap& map_;
  const PieceJudge& judge_;
  const JournalState& journal_;
  ReleaseFiles& files_;
  const PieceStore& store_;
  Committer& committer_;
  const ResumeObserver& observer_;
  Resumed result_;
  std::vector<bool> to_check_;  // one a piece
  std::map<std::uint64_t, std::vector<bool>> begun_;
  std::vector<std::uint64_t> lost_;
  std::uint64_t lost_proven_ = 0;
};

}  // namespace

JournalState::JournalState(const PieceMap& map, const PieceJudge& judge, std::size_t file_count)
    : map_(map), judge_(judge), proven_(map.piece_count(), false), files_(file_count) {}

void JournalState::take(const JournalRecord& record) {
  switch (record.kind) {
    case JournalRecord::Kind::piece: take_piece(record); break;
    case JournalRecord::Kind::piece_lost:
      if (record.index >= proven_.size()) break;
      proven_[record.index] = false;
      begun_.erase(record.index);
      break;
    case JournalRecord::Kind::piece_begun: take_blocks(record); break;
    case JournalRecord::Kind::file_opened:
      if (record.index < files_.size()) files_[record.index] = {File::State::opened, {}};
      break;
    case JournalRecord::Kind::file_closed:
      if (record.index < files_.size()) files_[record.index] = {File::State::closed, record.stamp};
      break;
  }
}

/// A piece that came before the torrent's piece layers did is whole on the disk, but nobody could say yet
/// whether it is right.
void JournalState::take_piece(const JournalRecord& record) {
  if (record.index >= proven_.size()) return;
  const Verdict verdict = judge_.judge(record.index, record.digest);
  proven_[record.index] = verdict == Verdict::right;
  begun_.erase(record.index);
  if (verdict == Verdict::unknown && begun_.size() < kUnjudgedMax)
    begun_.emplace(record.index, std::vector<bool>(block_count(record.index), true));
}

std::uint64_t JournalState::block_count(std::uint64_t piece) const {
  return base::divide_up(map_.piece_bytes(piece), kBlockBytes);
}

void JournalState::take_blocks(const JournalRecord& record) {
  if (record.index >= proven_.size() || proven_[record.index]) return;
  const std::uint64_t count = block_count(record.index);
  std::vector<bool>& blocks = begun_.try_emplace(record.index, count, false).first->second;
  for (std::size_t i = 0; i < BegunBlocks::kMax && record.blocks.first + i < count; ++i)
    blocks[record.blocks.first + i] = record.blocks.present[i];
}

Resumed resume(const format::ReleaseLayout& layout, const PieceMap& map, const PieceJudge& judge,
               const JournalState& journal, ReleaseFiles& files, const PieceStore& store,
               Committer& committer, unsigned thread_count, const ResumeObserver& observer) {
  return Resume(layout, map, judge, journal, files, store, committer, observer).run(thread_count);
}

}  // namespace sluice::fetch
