#pragma once
// Makes finished pieces durable and only then writes them into the journal: the files first, in batches,
// since one fdatasync serves all that was written before it; then the records; then the page cache is given
// back, so that a fetch does not push a running model out of memory.

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
#include "fetch/disk/begun_piece.h"
#include "fetch/disk/journal.h"
#include "fetch/disk/release_files.h"

namespace sluice::fetch {

struct CommitObserver {
  std::function<void(std::span<const std::uint64_t> pieces)> on_durable;  ///< from the committer's thread
  std::function<void(const base::Error&)> on_failure;  ///< the same; nothing more is committed then
};

class Committer final {
 public:
  Committer(ReleaseFiles& files, const PieceMap& map, Journal& journal, CommitObserver observer);
  /// Commits what is left.
  ~Committer();
  Committer(const Committer&) = delete;
  Committer& operator=(const Committer&) = delete;

  /// These files are going to be written; durable on return. Errors: io, no_space.
  void open_files(std::span<const std::size_t> files);
  void lose_pieces(std::span<const std::uint64_t> pieces);

  /// All bytes of `piece` have been written, and hash to `digest`. Returns at once.
  void add(std::uint64_t piece, const PieceDigest& digest);
  /// These blocks have been written. Returns at once.
  void add_begun(std::vector<BegunPiece> pieces);

  /// Waits until all that was added is durable, or cannot be.
  void flush();
  /// flush(), and the stamps of the files that were opened are written down: nobody is going to write them
  /// until open_files() is called again.
  void close_files();

 private:
  struct Finished {
    std::uint64_t piece;
    PieceDigest digest;
  };
  void work();
  void commit(const std::vector<Finished>& finished, const std::vector<BegunPiece>& begun);
  void append(std::span<const JournalRecord> records);
  [[nodiscard]] bool idle() const { return finished_.empty() && begun_.empty(); }  ///< with mutex_ held

  ReleaseFiles& files_;
  const PieceMap& map_;
  Journal& journal_;
  CommitObserver observer_;
  std::mutex journal_mutex_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Finished> finished_;
  std::vector<BegunPiece> begun_;
  std::set<std::size_t> opened_;
  bool committing_ = false;
  bool failed_ = false;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace sluice::fetch
