#pragma once
// What is already there when a fetch begins: the pieces that the journal proves, and those of files that have
// to be hashed, because nobody wrote down what is in them or because they were changed meanwhile.

#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "fetch/disk/begun_piece.h"
#include "fetch/disk/committer.h"
#include "fetch/disk/piece_store.h"
#include "fetch/disk/release_files.h"
#include "fetch/torrent/piece_digest.h"

namespace sluice::fetch {

/// What a journal's records come to when they are compared with the torrent.
class JournalState final {
 public:
  JournalState(const PieceMap& map, const PieceJudge& judge, std::size_t file_count);

  void take(const JournalRecord& record);

  struct File {
    enum class State : std::uint8_t { unknown, opened, closed };
    State state = State::unknown;
    base::FileStamp stamp;  ///< when closed
  };
  [[nodiscard]] const File& file(std::size_t index) const { return files_.at(index); }
  [[nodiscard]] bool proven(std::uint64_t piece) const { return proven_.at(piece); }
  [[nodiscard]] const std::vector<bool>& proven() const { return proven_; }
  /// Blocks, one a bool, of pieces that are not proven. All of them where nobody could judge the piece.
  [[nodiscard]] const std::map<std::uint64_t, std::vector<bool>>& begun() const { return begun_; }

 private:
  void take_piece(const JournalRecord& record);
  void take_blocks(const JournalRecord& record);
  [[nodiscard]] std::uint64_t block_count(std::uint64_t piece) const;

  const PieceMap& map_;
  const PieceJudge& judge_;
  std::vector<bool> proven_;
  std::map<std::uint64_t, std::vector<bool>> begun_;
  std::vector<File> files_;
};

struct ResumeObserver {
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> on_progress;  ///< any thread
  std::function<void(const std::string&)> on_warning;
  std::function<bool()> stop_requested;  ///< any thread
};

struct Resumed {
  std::vector<bool> proven;       ///< one a piece
  std::vector<BegunPiece> begun;  ///< in files that nobody has changed; they are hashed when they are whole
  std::uint64_t rehashed_bytes = 0;  ///< hashed because the journal did not prove them
  std::uint64_t sampled_bytes = 0;   ///< hashed to see whether the journal still holds; part of the above
};

/// A file that is gone loses its pieces; one whose size or time is not what the journal says, or in which one
/// of a few pieces taken at random is wrong, is hashed anew, with all the threads; so is one of which the
/// journal knows nothing. The committer is told what was found.
[[nodiscard]] Resumed resume(const format::ReleaseLayout& layout, const PieceMap& map,
                             const PieceJudge& judge, const JournalState& journal, ReleaseFiles& files,
                             const PieceStore& store, Committer& committer, unsigned thread_count,
                             const ResumeObserver& observer);

}  // namespace sluice::fetch
