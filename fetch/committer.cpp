#include "fetch/committer.h"

#include <algorithm>
#include <utility>

namespace sluice::fetch {

Committer::Committer(ReleaseFiles& files, const PieceMap& map, Journal& journal, CommitObserver observer)
    : files_(files), map_(map), journal_(journal), observer_(std::move(observer)), thread_([this] {
        work();
      }) {}

Committer::~Committer() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Committer::append(std::span<const JournalRecord> records) {
  const std::lock_guard lock(journal_mutex_);
  journal_.append(records);
}

void Committer::open_files(std::span<const std::size_t> files) {
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

void Committer::lose_pieces(std::span<const std::uint64_t> pieces) {
  std::vector<JournalRecord> records;
  for (const std::uint64_t piece : pieces)
    records.push_back({.kind = JournalRecord::Kind::piece_lost,
                       .index = static_cast<std::uint32_t>(piece),
                       .digest = {},
                       .stamp = {}});
  append(records);
}

void Committer::add(std::uint64_t piece, const PieceDigest& digest) {
  {
    const std::lock_guard lock(mutex_);
    finished_.push_back({piece, digest});
  }
  changed_.notify_all();
}

void Committer::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return failed_ || (finished_.empty() && !committing_); });
}

void Committer::close_files() {
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
    file->sync();
    records.push_back({.kind = JournalRecord::Kind::file_closed,
                       .index = static_cast<std::uint32_t>(index),
                       .digest = {},
                       .stamp = file->stamp()});
  }
  append(records);
}

void Committer::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || (!failed_ && !finished_.empty()); });
    if (failed_ || finished_.empty()) return;  // it is ending
    const auto batch = std::exchange(finished_, {});
    committing_ = true;
    lock.unlock();
    std::optional<base::Error> failure;
    try {
      commit(batch);
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

void Committer::commit(const std::vector<Finished>& batch) {
  std::set<std::size_t> touched;
  std::vector<JournalRecord> records;
  std::vector<std::uint64_t> pieces;
  for (const Finished& finished : batch) {
    for (const PieceSlice& slice : map_.slices(finished.piece)) touched.insert(slice.file_index);
    records.push_back({.kind = JournalRecord::Kind::piece,
                       .index = static_cast<std::uint32_t>(finished.piece),
                       .digest = finished.digest,
                       .stamp = {}});
    pieces.push_back(finished.piece);
  }
  for (const std::size_t file : touched) files_.open_for_writing(file)->sync();
  append(records);
  for (const std::uint64_t piece : pieces)
    for (const PieceSlice& slice : map_.slices(piece))
      files_.open_for_writing(slice.file_index)->drop_cache(slice.file_offset_bytes, slice.length_bytes);
  observer_.on_durable(pieces);
}

}  // namespace sluice::fetch
