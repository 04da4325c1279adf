#pragma once
// Makes finished pieces durable and only then records them in the journal. One thread works in batches: it
// syncs the files, because one fdatasync serves all earlier writes; then it appends the records; then it
// drops the files' pages from the page cache, so that a fetch does not push a running model out of memory.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "base/error.h"
#include "fetch/disk/journal.h"
#include "fetch/disk/release_files.h"

namespace sluice::fetch {

struct CommitObserver {
  /// Both are called from the committer's thread. After a failure nothing more is committed.
  std::function<void(std::span<const std::uint64_t> pieces)> on_durable;
  std::function<void(const base::Error&)> on_failure;
};

/// All functions may be called from any thread.
class PieceCommitter final {
 public:
  PieceCommitter(ReleaseFiles& files, const PieceMap& map, Journal& journal, CommitObserver observer);
  /// Commits the pieces that are still queued.
  ~PieceCommitter();
  PieceCommitter(const PieceCommitter&) = delete;
  PieceCommitter& operator=(const PieceCommitter&) = delete;

  /// Records that these files are about to be written; the records are durable on return. Errors: io,
  /// no_space.
  void open_files(std::span<const std::size_t> files);
  /// Records that the disk no longer holds these pieces. Durable on return.
  void lose_pieces(std::span<const std::uint64_t> pieces);

  /// Queues a piece whose bytes have all been written and hash to `digest`. Returns at once.
  void add(std::uint64_t piece, const PieceDigest& digest);
  /// Queues the written blocks of pieces that are not complete. Returns at once.
  void add_partial(std::vector<PartialPiece> pieces);

  /// Waits until everything queued so far is durable, or has failed.
  void flush();
  /// Flushes, then records the stamps of the files that were opened. Nobody may write these files until
  /// open_files() is called again.
  void close_files();

 private:
  struct Finished {
    std::uint64_t piece;
    PieceDigest digest;
  };
  void work();
  void commit(const std::vector<Finished>& finished, const std::vector<PartialPiece>& partial);
  void append(std::span<const JournalRecord> records);
  [[nodiscard]] bool idle() const { return finished_.empty() && partial_.empty(); }  ///< with mutex_ held

  ReleaseFiles& files_;
  const PieceMap& map_;
  Journal& journal_;
  CommitObserver observer_;
  std::mutex journal_mutex_;

  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  std::vector<Finished> finished_;
  std::vector<PartialPiece> partial_;
  std::set<std::size_t> opened_;
  bool committing_ = false;
  bool failed_ = false;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace sluice::fetch
