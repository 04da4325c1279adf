#pragma once
// The disk layer of a transfer: a pool of threads between the network and the files, with pread and pwrite.
//
// Blocks are hashed from memory as they arrive, so that a complete piece is not read back. BEP 52 leaves are
// hashed one by one. SHA-1 (BEP 3) needs the blocks in order: a block that arrives early is kept in memory
// until the gap before it is filled, unless memory is short. One thread at a time works on a piece. Adjacent
// blocks are written together. When the store holds too much, write() says so and the network waits.
//
// Only a piece that matches the torrent's hashes, or whose hashes are not known yet, goes to the committer.

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
#include "fetch/disk/piece_committer.h"
#include "fetch/disk/release_files.h"
#include "fetch/torrent/piece_verifier.h"

namespace sluice::fetch {

struct StoreOptions {
  unsigned thread_count = 2;
  std::uint64_t memory_bytes = 64u << 20;  ///< for blocks that wait to be written or hashed
  std::function<void(const base::Error&)>
      on_failure;  ///< called by the store's threads when a write fails, or the torrent contradicts itself
};

/// All functions may be called from any thread. Handlers are called by the store's threads.
class PieceStore final {
 public:
  using Failure = std::optional<base::Error>;
  using Done = std::function<void(const Failure&)>;
  struct HashResult {
    Failure failure;
    PieceDigest digest;
    MatchResult match = MatchResult::unknown;
    std::vector<base::Sha256> leaves;  ///< one per block; empty for a v1 torrent
  };
  using Hashed = std::function<void(HashResult)>;

  /// `committer` is null for a store that only reads.
  PieceStore(ReleaseFiles& files, const PieceMap& map, const PieceVerifier& verifier,
             PieceCommitter* committer, StoreOptions options);
  /// Finishes all requests first.
  ~PieceStore();
  PieceStore(const PieceStore&) = delete;
  PieceStore& operator=(const PieceStore&) = delete;

  /// Copies a block, which starts at a multiple of kBlockBytes, and queues it. Returns false when the store
  /// is full: the block is accepted nevertheless, and `on_room` is called when there is room again. Blocks
  /// the caller while the store holds more than twice its memory.
  bool write(std::uint64_t piece, std::uint64_t offset_bytes, base::Bytes block, Done done,
             std::function<void()> on_room);
  /// Reads into `out`, which must live until `done` is called, after all earlier writes to the piece.
  void read(std::uint64_t piece, std::uint64_t offset_bytes, base::MutableBytes out, Done done);
  /// Computes the digest of the whole piece. A piece that does not contradict the torrent goes to the
  /// committer.
  void hash(std::uint64_t piece, Hashed done);
  /// Computes the BEP 52 leaf of one block, as it lies on the disk.
  void hash_block(std::uint64_t piece, std::uint64_t offset_bytes,
                  std::function<void(const base::Sha256&, const Failure&)> done);
  /// Discards the state of a piece that turned out wrong.
  void forget(std::uint64_t piece, std::function<void()> done);
  /// Calls `done` when all requests so far are done.
  void flush(std::function<void()> done);

  /// Says that these blocks are on the disk from an earlier run. Call it before any other request for the
  /// piece.
  void restore(const PartialPiece& piece);
  /// Partial pieces that have changed since the last call, with their written blocks; in addition the pieces
  /// that turned out wrong, without blocks.
  [[nodiscard]] std::vector<PartialPiece> take_partial();

  /// Computes the digest of a piece as it lies on the disk, in the caller's thread. Nothing when one of its
  /// files is missing or too short.
  [[nodiscard]] std::optional<PieceDigest> digest_on_disk(std::uint64_t piece) const;

  /// The SHA-256 of each 16 KiB block of a piece as it lies on the disk, padding included, computed in the
  /// caller's thread. Empty when it cannot be read.
  [[nodiscard]] std::vector<base::Sha256> block_digests_on_disk(std::uint64_t piece) const;

  /// Bytes of partial pieces, in memory and on the disk.
  [[nodiscard]] std::uint64_t unfinished_bytes() const;

 private:
  struct ActivePiece;
  using Job = std::function<void(ActivePiece&)>;
  struct PendingBlock {
    std::uint64_t index = 0;  // in the piece
    std::vector<std::byte> bytes;
    Done done;
  };

  void work();
  void work_on(ActivePiece& piece, std::unique_lock<std::mutex>& lock);
  void process_blocks(ActivePiece& piece, std::vector<PendingBlock>& blocks);
  Failure write_blocks(ActivePiece& piece, std::vector<PendingBlock>& blocks);
  void record_written(ActivePiece& piece, const std::vector<PendingBlock>& blocks);
  void advance_sha1(ActivePiece& piece);
  void keep_or_free(ActivePiece& piece, std::vector<PendingBlock>& blocks);
  void drop_kept(ActivePiece& piece);
  HashResult finish(ActivePiece& piece);
  void compute(ActivePiece& piece, HashResult& result);
  void complete_leaves(ActivePiece& piece) const;
  base::Sha1 complete_sha1(ActivePiece& piece);
  void add_job(std::uint64_t piece, Job job);
  ActivePiece& find_or_add(std::uint64_t piece);
  void close(ActivePiece& piece);
  void enqueue(ActivePiece& piece);
  void enqueue_all();
  void free_kept(ActivePiece& piece);
  void release(std::uint64_t bytes);
  void call_waiters(std::unique_lock<std::mutex>& lock);

  ReleaseFiles& files_;
  const PieceMap& map_;
  const PieceVerifier& verifier_;
  PieceCommitter* committer_;
  std::uint64_t memory_max_;
  std::function<void(const base::Error&)> on_failure_;

  mutable std::mutex mutex_;  // guards the members below, and some of ActivePiece
  std::condition_variable changed_;
  std::condition_variable freed_;  // memory_bytes_ has decreased
  std::unordered_map<std::uint64_t, std::unique_ptr<ActivePiece>> pieces_;
  std::deque<ActivePiece*> ready_;
  std::vector<std::function<void()>> room_waiters_;
  std::vector<std::function<void()>> flush_waiters_;
  std::vector<PartialPiece> wrong_;  // not yet returned by take_partial()
  std::uint64_t memory_bytes_ = 0;
  std::uint64_t unfinished_bytes_ = 0;
  unsigned calling_ = 0;  // threads that are calling waiters
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice::fetch
