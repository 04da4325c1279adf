#pragma once
// Finds what is already on the disk when a fetch starts: the pieces that the journal proves, and the pieces
// of files that must be hashed again because the journal does not know them or because they have changed.

#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "fetch/disk/piece_committer.h"
#include "fetch/disk/piece_store.h"
#include "fetch/disk/release_files.h"
#include "fetch/torrent/piece_verifier.h"

namespace sluice::fetch {

/// The state that a journal's records describe, after comparison with the torrent's hashes.
class JournalState final {
 public:
  JournalState(const PieceMap& map, const PieceVerifier& verifier, std::size_t file_count);

  void take(const JournalRecord& record);

  struct File {
    enum class State : std::uint8_t { unknown, opened, closed };
    State state = State::unknown;
    base::FileStamp stamp;  ///< when closed
  };
  [[nodiscard]] const File& file(std::size_t index) const { return files_.at(index); }
  [[nodiscard]] bool verified(std::uint64_t piece) const { return verified_.at(piece); }
  [[nodiscard]] const std::vector<bool>& verified() const { return verified_; }
  /// The blocks on the disk of pieces that are not verified, one flag per block. A piece whose hash the
  /// torrent does not have yet has all of them.
  [[nodiscard]] const std::map<std::uint64_t, std::vector<bool>>& partial() const { return partial_; }

 private:
  void take_piece(const JournalRecord& record);
  void take_blocks(const JournalRecord& record);
  [[nodiscard]] std::uint64_t block_count(std::uint64_t piece) const;

  const PieceMap& map_;
  const PieceVerifier& verifier_;
  std::vector<bool> verified_;
  std::map<std::uint64_t, std::vector<bool>> partial_;
  std::vector<File> files_;
};

struct ResumeObserver {
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> on_progress;  ///< any thread
  std::function<void(const std::string&)> on_warning;
  std::function<bool()> stop_requested;  ///< any thread
};

struct Resumed {
  std::vector<bool> verified;         ///< one flag per piece
  std::vector<PartialPiece> partial;  ///< in unchanged files; a piece is hashed when it is complete
  std::uint64_t rehashed_bytes = 0;   ///< hashed because the journal did not prove them
  std::uint64_t sampled_bytes = 0;    ///< part of rehashed_bytes: hashed to test the journal at random
  std::vector<bool> believed;         ///< verified pieces that only the journal proves: not hashed now
  std::vector<bool> adopted;          ///< verified pieces that the journal did not know
};

/// With `recheck` all files are hashed. Otherwise: a missing file loses its pieces. A file is hashed again,
/// with all threads, when its size or time differs from the journal, when the journal does not know it, or
/// when one of a few pieces chosen at random does not match. The results go to the committer.
[[nodiscard]] Resumed resume(const format::ReleaseLayout& layout, const PieceMap& map,
                             const PieceVerifier& verifier, const JournalState& journal, ReleaseFiles& files,
                             const PieceStore& store, PieceCommitter& committer, unsigned thread_count,
                             bool recheck, const ResumeObserver& observer);

}  // namespace sluice::fetch
