#pragma once
// The disk layer of a transfer: a pool of threads between the network and the files, with pread and pwrite.
//
// Blocks are hashed from memory as they arrive, so that a finished piece is not read back: leaves (BEP 52)
// one by one, SHA-1 (BEP 3) as far as the piece is there without a gap; what comes out of order waits in
// memory for its turn, unless memory is short. Each piece is worked on by one thread at a time. Blocks are
// written in runs. When the store holds too much it says so, and the network waits.
//
// A piece that hashes to what the torrent says goes to the committer; nothing else does.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "fetch/disk/begun_piece.h"
#include "fetch/disk/committer.h"
#include "fetch/disk/release_files.h"
#include "fetch/torrent/piece_digest.h"

namespace sluice::fetch {

struct StoreOptions {
  unsigned thread_count = 2;
  std::uint64_t memory_bytes = 64u << 20;              ///< for blocks that wait to be written or hashed
  std::function<void(const base::Error&)> on_failure;  ///< a write failed; from the store's threads
};

/// Handlers are called from the store's threads.
class PieceStore final {
 public:
  using Failure = std::optional<base::Error>;
  using Done = std::function<void(const Failure&)>;
  struct HashResult {
    Failure failure;
    PieceDigest digest;
    std::vector<base::Sha256> leaves;  ///< of a v2 or hybrid torrent
  };
  using Hashed = std::function<void(HashResult)>;

  /// `committer` is null for a store that only reads.
  PieceStore(ReleaseFiles& files, const PieceMap& map, const PieceJudge& judge, Committer* committer,
             StoreOptions options);
  /// Finishes all that was asked for.
  ~PieceStore();
  PieceStore(const PieceStore&) = delete;
  PieceStore& operator=(const PieceStore&) = delete;

  /// Takes a copy of a block, which begins at a multiple of kBlockBytes. Returns false when the store is
  /// full: the block is taken all the same, and `on_room` is called when there is room again. Waits while the
  /// store holds twice its memory.
  bool write(std::uint64_t piece, std::uint64_t offset_bytes, base::Bytes block, Done done,
             std::function<void()> on_room);
  /// Into `out`, which lives until `done`; after all writes to the piece that came before.
  void read(std::uint64_t piece, std::uint64_t offset_bytes, base::MutableBytes out, Done done);
  /// The digest of the whole piece; judges it, and passes it on to be committed.
  void hash(std::uint64_t piece, Hashed done);
  /// Of one block.
  void hash_block(std::uint64_t piece, std::uint64_t offset_bytes,
                  std::function<void(const base::Sha256&, const Failure&)> done);
  /// Forgets what is known of a piece that turned out wrong.
  void forget(std::uint64_t piece, std::function<void()> done);
  /// When all that was asked for so far is done.
  void flush(std::function<void()> done);

  /// These blocks are on the disk from an earlier run; before anything else is asked of the piece.
  void restore(const BegunPiece& piece);
  /// Pieces that are not finished and have changed since the last call, with what has been written of them;
  /// also those that turned out wrong, without blocks.
  [[nodiscard]] std::vector<BegunPiece> take_begun();

  /// Digest of a piece as it lies on the disk, in the caller's thread. Nothing when a file of it is missing
  /// or too short.
  [[nodiscard]] std::optional<PieceDigest> digest_on_disk(std::uint64_t piece) const;

  /// Bytes of pieces that are not finished yet, in memory and on the disk.
  [[nodiscard]] std::uint64_t unfinished_bytes() const;

 private:
  struct Piece;
  using Job = std::function<void(Piece&)>;
  struct Block {
    std::uint64_t index = 0;
    std::vector<std::byte> bytes;
    Done done;
  };

  void work();
  void work_on(Piece& piece, std::unique_lock<std::mutex>& lock);
  void take_blocks(Piece& piece, std::vector<Block>& blocks);
  Failure write_blocks(Piece& piece, std::vector<Block>& blocks);
  void note_written(Piece& piece, const std::vector<Block>& blocks);
  void advance_sha1(Piece& piece);
  void keep_or_free(Piece& piece, std::vector<Block>& blocks);
  void drop_kept(Piece& piece);
  HashResult finish(Piece& piece);
  void compute(Piece& piece, HashResult& result);
  void complete_leaves(Piece& piece) const;
  base::Sha1 complete_sha1(Piece& piece);
  void add_job(std::uint64_t piece, Job job);
  Piece& find_or_add(std::uint64_t piece);
  void close(Piece& piece);
  void enqueue(Piece& piece);
  void enqueue_all();
  void free_kept(Piece& piece);
  void release(std::uint64_t bytes);
  void call_waiters(std::unique_lock<std::mutex>& lock);

  ReleaseFiles& files_;
  const PieceMap& map_;
  const PieceJudge& judge_;
  Committer* committer_;
  std::uint64_t memory_max_;
  std::function<void(const base::Error&)> on_failure_;

  mutable std::mutex mutex_;  // guards what follows, and what Piece says
  std::condition_variable changed_;
  std::condition_variable freed_;  // memory_bytes_ has become less
  std::unordered_map<std::uint64_t, std::unique_ptr<Piece>> pieces_;
  std::deque<Piece*> ready_;
  std::vector<std::function<void()>> room_waiters_;
  std::vector<std::function<void()>> flush_waiters_;
  std::vector<BegunPiece> wrong_;  // not told by take_begun() yet
  std::uint64_t memory_bytes_ = 0;
  std::uint64_t unfinished_bytes_ = 0;
  unsigned calling_ = 0;  // threads that call waiters
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice::fetch
