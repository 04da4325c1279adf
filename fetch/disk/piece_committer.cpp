// Makes pieces durable in batches: fdatasync() of the files, then the records, then the page cache is
// dropped. A sync per piece would hold the disk up for each of them; the committer's thread takes everything
// that was queued since its last round as one batch, so a slow disk makes batches larger and not the queue of
// syncs longer.
//
// Two mutexes: `mutex_` guards the queues and is never held during disk access, so add() returns at once;
// `journal_mutex_` serializes appends, because open_files() and lose_pieces() append from the caller's
// thread.
//
// After the first failure nothing more is committed: the journal then ends with the last batch that is known
// to be durable. Linux reports a failed write-back only once per open file, so a later fdatasync() that
// succeeds would prove nothing.

#include "fetch/disk/piece_committer.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace sluice::fetch {
namespace {

// A record has one bit for each of PartialBlocks::kMax blocks; a larger piece takes several.
void add_records(const PartialPiece& piece, std::vector<JournalRecord>& records) {
  for (std::size_t first = 0; first < piece.blocks.size(); first += PartialBlocks::kMax) {
    JournalRecord record{.kind = JournalRecord::Kind::piece_partial,
                         .index = static_cast<std::uint32_t>(piece.index),
                         .digest = {},
                         .stamp = {},
                         .blocks = {.first = static_cast<std::uint32_t>(first), .present = {}}};
    for (std::size_t i = 0; i < PartialBlocks::kMax && first + i < piece.blocks.size(); ++i)
      record.blocks.present[i] = piece.blocks[first + i];
    records.push_back(record);
  }
}

}  // namespace

PieceCommitter::PieceCommitter(ReleaseFiles& files, const PieceMap& map, Journal& journal,
                               CommitObserver observer)
    : files_(files), map_(map), journal_(journal), observer_(std::move(observer)), thread_([this] {
        work();
      }) {}

PieceCommitter::~PieceCommitter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void PieceCommitter::append(std::span<const JournalRecord> records) {
  const std::lock_guard lock(journal_mutex_);
  journal_.append(records);
}

// Durable before the first write: without the records a crash would leave files that the journal calls closed
// and whose time has changed, and all of them would be hashed again.
void PieceCommitter::open_files(std::span<const std::size_t> files) {
  std::vector<JournalRecord> records;
  {
    const std::lock_guard lock(mutex_);
    for (const std::size_t file : files)
      if (opened_.insert(file).second)
        records.push_back({.kind = JournalRecord::Kind::file_opened,
                           .index = static_cast<std::uint32_t>(file),
                           .digest = {},
                           .stamp = {}});
  }
  append(records);
}

void PieceCommitter::lose_pieces(std::span<const std::uint64_t> pieces) {
  // A missing file can lose millions of pieces; their records are written in parts of bounded size.
  constexpr std::size_t kRecordsMax = 1 << 14;
  while (!pieces.empty()) {
    const auto some = pieces.first(std::min(pieces.size(), kRecordsMax));
    std::vector<JournalRecord> records;
    for (const std::uint64_t piece : some)
      records.push_back({.kind = JournalRecord::Kind::piece_lost,
                         .index = static_cast<std::uint32_t>(piece),
                         .digest = {},
                         .stamp = {}});
    append(records);
    pieces = pieces.subspan(some.size());
  }
}

void PieceCommitter::add(std::uint64_t piece, const PieceDigest& digest) {
  {
    const std::lock_guard lock(mutex_);
    finished_.push_back({piece, digest});
  }
  changed_.notify_all();
}

void PieceCommitter::add_partial(std::vector<PartialPiece> pieces) {
  {
    const std::lock_guard lock(mutex_);
    std::ranges::move(pieces, std::back_inserter(partial_));
  }
  changed_.notify_all();
}

void PieceCommitter::flush() {
  std::unique_lock lock(mutex_);
  // After a failure the queue is never emptied, so waiting for it would not end.
  changed_.wait(lock, [this] { return failed_ || (idle() && !committing_); });
}

void PieceCommitter::close_files() {
  flush();
  std::set<std::size_t> opened;
  {
    const std::lock_guard lock(mutex_);
    if (failed_) return;
    opened = std::exchange(opened_, {});
  }
  std::vector<JournalRecord> records;
  for (const std::size_t index : opened) {
    if (!files_.find(index)) continue;
    const auto file = files_.open_for_writing(index);
    file->sync();  // the stamp says that all bytes are on the disk
    records.push_back({.kind = JournalRecord::Kind::file_closed,
                       .index = static_cast<std::uint32_t>(index),
                       .digest = {},
                       .stamp = file->stamp()});
  }
  append(records);
}

void PieceCommitter::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || (!failed_ && !idle()); });
    if (failed_ || idle()) return;  // ending_ is set, and nothing is left to commit
    const auto finished = std::exchange(finished_, {});
    const auto partial = std::exchange(partial_, {});
    committing_ = true;
    lock.unlock();  // pieces that are queued meanwhile form the next batch and share its fdatasync
    std::optional<base::Error> failure;
    try {
      commit(finished, partial);
    } catch (const base::Error& error) {
      failure = error;
    }
    if (failure) observer_.on_failure(*failure);
    lock.lock();
    failed_ = failure.has_value();
    committing_ = false;
    changed_.notify_all();
  }
}

void PieceCommitter::commit(const std::vector<Finished>& finished, const std::vector<PartialPiece>& partial) {
  std::set<std::size_t> touched;
  std::vector<JournalRecord> records;
  std::vector<std::uint64_t> pieces;
  // Partial pieces first: a piece may have become complete after its blocks were collected, and the later
  // record wins.
  for (const PartialPiece& piece : partial) {
    for (const PieceSlice& slice : map_.slices(piece.index)) touched.insert(slice.file_index);
    add_records(piece, records);
  }
  for (const auto& [piece, digest] : finished) {
    for (const PieceSlice& slice : map_.slices(piece)) touched.insert(slice.file_index);
    records.push_back({.kind = JournalRecord::Kind::piece,
                       .index = static_cast<std::uint32_t>(piece),
                       .digest = digest,
                       .stamp = {}});
    pieces.push_back(piece);
  }
  // Data first, records second: a record must never describe bytes that a power loss can take back.
  for (const std::size_t file : touched) files_.open_for_writing(file)->sync();
  append(records);
  // The pages are clean now, and nobody reads them soon. Dropping them keeps a large fetch from pushing
  // everything else out of the page cache.
  for (const std::uint64_t piece : pieces)
    for (const PieceSlice& slice : map_.slices(piece))
      files_.open_for_writing(slice.file_index)->drop_cache(slice.file_offset_bytes, slice.length_bytes);
  observer_.on_durable(pieces);
}

}  // namespace sluice::fetch
