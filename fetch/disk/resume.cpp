// Decides which pieces a fetch need not get again. It runs in the worker before the session starts: it
// compares the files with the journal, samples a few verified pieces, and hashes doubtful files with a pool
// of threads. docs/fetch.md lists the rules.
//
// Hashing everything would be simpler, but that takes many minutes for a large release, at each start. The
// journal's digests were compared with the torrent when they were read, so the only doubt left is whether the
// files still hold those bytes.
//
// Invariants: result_.verified names only pieces that the torrent's hashes prove, and partial_ only pieces of
// files that have not changed since their blocks were recorded. Losses are recorded at the end, so that a
// kill during the check only repeats it.

#include "fetch/disk/resume.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>

#include "base/parallel.h"

namespace sluice::fetch {
namespace {

// The sample bounds the delay at the start: 8 MiB, in at most 16 pieces. It finds a file that was damaged as
// a whole and not a single flipped bit; `sluice verify` is there for that.
constexpr std::uint64_t kSampleBytes = 8u << 20;
constexpr std::uint64_t kSamplesMax = 16;
constexpr std::size_t kUnverifiedMax = 16'384;  // bounds the memory for their block lists

class Resume {
 public:
  Resume(const format::ReleaseLayout& layout, const PieceMap& map, const PieceVerifier& verifier,
         const JournalState& journal, ReleaseFiles& files, const PieceStore& store, PieceCommitter& committer,
         bool recheck, const ResumeObserver& observer)
      : layout_(layout),
        map_(map),
        verifier_(verifier),
        journal_(journal),
        files_(files),
        store_(store),
        committer_(committer),
        recheck_(recheck),
        observer_(observer) {
    result_.verified = journal.verified();
    partial_ = journal.partial();
    to_rehash_.resize(result_.verified.size(), false);
    hashed_.resize(result_.verified.size(), false);
    result_.adopted.resize(result_.verified.size(), false);
  }

  Resumed run(unsigned thread_count) {
    // Empty files have no pieces; the worker creates them.
    for (std::size_t i = 0; i < layout_.files.size(); ++i)
      if (!layout_.files[i].pad && layout_.files[i].length_bytes > 0) inspect_file(i);
    sample();
    rehash(thread_count);
    forget_rehashed_blocks();
    committer_.lose_pieces(lost_);
    if (lost_verified_ > 0)
      observer_.on_warning("files have changed since they were fetched; " + std::to_string(lost_verified_) +
                           " pieces are fetched again");
    for (std::size_t piece = 0; piece < result_.verified.size(); ++piece)
      result_.believed.push_back(result_.verified[piece] && !hashed_[piece]);
    for (auto& [piece, blocks] : partial_)
      if (std::ranges::find(blocks, true) != blocks.end())
        result_.partial.push_back({piece, std::move(blocks)});
    return std::move(result_);
  }

 private:
  void inspect_file(std::size_t index) {
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
    if (recheck_) return mark_for_rehash(index, "");
    switch (known.state) {
      // Somebody put the file there, or the journal was lost: its bytes may be right, so they are hashed.
      case JournalState::File::State::unknown:
        if (found->size_bytes > 0) mark_for_rehash(index, "");
        break;
      // A closed file has a stamp: its size and time when the last fetch or repair had synced it.
      case JournalState::File::State::closed:
        if (*found != known.stamp) mark_for_rehash(index, "has changed since it was fetched");
        break;
      // The fetch was killed while it wrote. Size and time say nothing then, but proven pieces must lie in
      // the file.
      case JournalState::File::State::opened:
        if (found->size_bytes < verified_end_bytes(index)) mark_for_rehash(index, "is shorter than it was");
        break;
    }
  }

  /// The length that the file must have to hold its verified pieces.
  [[nodiscard]] std::uint64_t verified_end_bytes(std::size_t index) const {
    const auto [first, last] = map_.pieces_of(index);
    for (std::uint64_t piece = last; piece > first; --piece) {
      // From the end: the last verified piece decides, and in a file that is nearly complete it comes at
      // once.
      if (!result_.verified[piece - 1]) continue;
      for (const PieceSlice& slice : map_.slices(piece - 1))
        if (slice.file_index == index) return slice.file_offset_bytes + slice.length_bytes;
    }
    return 0;
  }

  void mark_for_rehash(std::size_t index, const std::string& why) {
    if (!why.empty())
      observer_.on_warning(files_.path(index).string() + ": " + why + "; it is checked again");
    const auto [first, last] = map_.pieces_of(index);
    for (std::uint64_t piece = first; piece < last; ++piece) to_rehash_[piece] = true;
  }

  /// The loss is recorded in the journal at the end, so that a crash before that only repeats this check.
  void lose(std::uint64_t piece) {
    if (!result_.verified[piece]) return;
    result_.verified[piece] = false;
    lost_.push_back(piece);
    ++lost_verified_;
  }

  // Blocks of a partial piece have no digests of their own (docs/decisions/0005), so nothing can show that
  // they survived a change of their file. They are fetched again.
  void forget_blocks(std::uint64_t piece) {
    if (partial_.erase(piece) > 0 && !result_.verified[piece]) lost_.push_back(piece);
  }

  void forget_rehashed_blocks() {
    for (auto partial = partial_.begin(); partial != partial_.end();) {
      const std::uint64_t piece = (partial++)->first;
      if (to_rehash_[piece]) forget_blocks(piece);
    }
  }

  /// Hashes a few verified pieces, chosen at random, because a file can be damaged without a new size or
  /// time.
  void sample() {
    std::vector<std::uint32_t> known;
    for (std::uint32_t piece = 0; piece < result_.verified.size(); ++piece)
      if (result_.verified[piece] && !to_rehash_[piece]) known.push_back(piece);
    std::vector<std::uint32_t> chosen;
    const std::uint64_t count = std::clamp<std::uint64_t>(kSampleBytes / layout_.piece_bytes, 1, kSamplesMax);
    std::ranges::sample(known, std::back_inserter(chosen), static_cast<std::ptrdiff_t>(count),
                        std::mt19937_64(std::random_device()()));
    for (const std::uint32_t piece : chosen) {
      result_.sampled_bytes += payload_bytes(piece);
      // One wrong piece is reason to doubt all files that it touches; rehash() then finds which of their
      // pieces are right.
      hashed_[piece] = true;
      if (matches(piece)) continue;
      for (const PieceSlice& slice : map_.slices(piece))
        mark_for_rehash(slice.file_index, "does not hold what the journal says");
    }
    result_.rehashed_bytes += result_.sampled_bytes;
  }

  /// Bytes of the piece without padding.
  [[nodiscard]] std::uint64_t payload_bytes(std::uint64_t piece) const {
    std::uint64_t total = 0;
    for (const PieceSlice& slice : map_.slices(piece)) total += slice.length_bytes;
    return total;
  }

  [[nodiscard]] bool matches(std::uint64_t piece) const {
    const auto digest = store_.digest_on_disk(piece);
    return digest && verifier_.verify(piece, *digest) == MatchResult::match;
  }

  void rehash(unsigned thread_count) {
    std::vector<std::uint32_t> pieces;
    std::uint64_t total_bytes = 0;
    for (std::uint32_t piece = 0; piece < to_rehash_.size(); ++piece) {
      if (!to_rehash_[piece]) continue;
      pieces.push_back(piece);
      total_bytes += payload_bytes(piece);
    }
    if (pieces.empty()) return;
    std::atomic<std::uint64_t> done_bytes = 0;
    std::mutex mutex;
    // A piece is one task: hashing is bound by the CPU or the disk, and a piece is large enough for both.
    base::WorkerPool pool(thread_count);
    pool.run(pieces.size(), [&](std::size_t task, unsigned) {
      if (observer_.stop_requested()) return;
      const std::uint64_t piece = pieces[task];
      const auto digest = store_.digest_on_disk(piece);
      const bool right = digest && verifier_.verify(piece, *digest) == MatchResult::match;
      observer_.on_progress(done_bytes += payload_bytes(piece), total_bytes);
      const std::lock_guard lock(mutex);
      // lose() does nothing for a piece that was not verified before, so unknown files lose nothing.
      if (!right) return lose(piece);
      hashed_[piece] = true;
      result_.verified[piece] = true;
      result_.adopted[piece] = !journal_.verified(piece);
      committer_.add(piece, *digest);
    });
    result_.rehashed_bytes += done_bytes;
  }

  const format::ReleaseLayout& layout_;
  const PieceMap& map_;
  const PieceVerifier& verifier_;
  const JournalState& journal_;
  ReleaseFiles& files_;
  const PieceStore& store_;
  PieceCommitter& committer_;
  bool recheck_;
  const ResumeObserver& observer_;
  Resumed result_;
  std::vector<bool> to_rehash_;  // one flag per piece
  std::vector<bool> hashed_;     // in this run; one flag per piece
  std::map<std::uint64_t, std::vector<bool>> partial_;
  std::vector<std::uint64_t> lost_;
  std::uint64_t lost_verified_ = 0;
};

}  // namespace

JournalState::JournalState(const PieceMap& map, const PieceVerifier& verifier, std::size_t file_count)
    : map_(map), verifier_(verifier), verified_(map.piece_count(), false), files_(file_count) {}

void JournalState::take(const JournalRecord& record) {
  switch (record.kind) {
    case JournalRecord::Kind::piece: take_piece(record); break;
    case JournalRecord::Kind::piece_lost:
      if (record.index >= verified_.size()) break;
      verified_[record.index] = false;
      partial_.erase(record.index);
      break;
    case JournalRecord::Kind::piece_partial: take_blocks(record); break;
    case JournalRecord::Kind::file_opened:
      if (record.index < files_.size()) files_[record.index] = {File::State::opened, {}};
      break;
    case JournalRecord::Kind::file_closed:
      if (record.index < files_.size()) files_[record.index] = {File::State::closed, record.stamp};
      break;
  }
}

/// A piece that arrived before the torrent's piece layers is complete on the disk, but its hash was unknown
/// then: it counts as a partial piece that has all its blocks.
void JournalState::take_piece(const JournalRecord& record) {
  if (record.index >= verified_.size()) return;
  const MatchResult result = verifier_.verify(record.index, record.digest);
  verified_[record.index] = result == MatchResult::match;
  partial_.erase(record.index);
  if (result == MatchResult::unknown && partial_.size() < kUnverifiedMax)
    partial_.emplace(record.index, std::vector<bool>(block_count(record.index), true));
}

std::uint64_t JournalState::block_count(std::uint64_t piece) const {
  return base::divide_up(map_.piece_bytes(piece), kBlockBytes);
}

void JournalState::take_blocks(const JournalRecord& record) {
  if (record.index >= verified_.size() || verified_[record.index]) return;
  const std::uint64_t count = block_count(record.index);
  // A record covers up to kMax blocks, so a large piece has several, which are merged. A later record of the
  // same blocks replaces the earlier one.
  std::vector<bool>& blocks = partial_.try_emplace(record.index, count, false).first->second;
  for (std::size_t i = 0; i < PartialBlocks::kMax && record.blocks.first + i < count; ++i)
    blocks[record.blocks.first + i] = record.blocks.present[i];
}

Resumed resume(const format::ReleaseLayout& layout, const PieceMap& map, const PieceVerifier& verifier,
               const JournalState& journal, ReleaseFiles& files, const PieceStore& store,
               PieceCommitter& committer, unsigned thread_count, bool recheck,
               const ResumeObserver& observer) {
  return Resume(layout, map, verifier, journal, files, store, committer, recheck, observer).run(thread_count);
}

}  // namespace sluice::fetch
