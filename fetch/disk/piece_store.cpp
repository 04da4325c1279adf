// The queue and the threads of the disk layer. A request (a block, a read, a hash) is attached to its piece,
// and the piece to the queue `ready_`. A thread takes a piece, marks it busy, and works on it without the
// mutex until no request is left; so the hash state of a piece (leaves, sha1, kept blocks) needs no lock of
// its own.
//
// Memory: memory_bytes_ counts every block from write() until it is both on the disk and hashed. Above half
// of the limit all queued pieces are worked on at once; above three quarters, blocks kept for SHA-1 are
// dropped and read back later; above the limit write() returns false; above twice the limit it blocks.
//
// Invariants: a piece is in `ready_` at most once and never while it is busy; a piece whose write failed is
// never committed, whatever its blocks hashed to in memory; room and flush handlers run without the mutex.

#include "fetch/disk/piece_store.h"

#include <algorithm>
#include <utility>

#include "base/hasher.h"
#include "base/invariant.h"
#include "base/merkle.h"

namespace sluice::fetch {
namespace {

// The first two trade memory for fewer system calls: a write gathers up to kRunBlocks blocks in one buffer,
// and a read that hashes a whole piece never holds more than kReadBytes of it.
constexpr std::size_t kRunBlocks = 32;                  // one write: 512 KiB
constexpr std::uint64_t kReadBytes = 64 * kBlockBytes;  // one read: 1 MiB
constexpr std::uint64_t kRoomBytesMin = 1u << 20;       // beyond the store's memory, before write() blocks

}  // namespace

/// A piece that has some blocks, or for which a request is queued.
/// The fields fall into two groups with two rules. The first group belongs to the queue and needs mutex_. The
/// second holds the state of the hashes; only the thread that has set `busy` touches it, without the mutex.
struct PieceStore::ActivePiece {
  std::uint64_t index = 0;
  std::uint64_t block_count = 0;

  // Guarded by mutex_.
  std::vector<PendingBlock> fresh;  // as they arrived from the network
  std::vector<Job> jobs;            // to be run when no fresh block is left
  // Bytes of all blocks that arrived or were restored since the piece was last closed, written or not. The
  // piece stays in `pieces_` as long as this is not zero.
  std::uint64_t seen_bytes = 0;
  std::vector<bool> written;   // one flag per block
  bool written_dirty = false;  // changed since take_partial()
  bool queued = false;
  bool busy = false;

  // Used only by the thread for which the piece is busy.
  std::map<std::uint64_t, std::vector<std::byte>> kept;  // written blocks that SHA-1 has not reached
  std::vector<std::optional<base::Sha256>> leaves;       // empty before the first is hashed
  base::Hasher<base::Sha1> sha1;
  std::uint64_t sha1_blocks = 0;  // blocks hashed by sha1
  Failure failure;                // of a write: the hashed bytes may not be on the disk

  [[nodiscard]] std::uint64_t kept_bytes() const {
    std::uint64_t total = 0;
    for (const auto& [block, bytes] : kept) total += bytes.size();
    return total;
  }
  // Starts the hashes again from nothing. final() is called for its side effect: it resets the hasher.
  void forget() {
    leaves = {};
    static_cast<void>(sha1.final());
    sha1_blocks = 0;
    failure.reset();
  }
};

PieceStore::PieceStore(ReleaseFiles& files, const PieceMap& map, const PieceVerifier& verifier,
                       PieceCommitter* committer, StoreOptions options)
    : files_(files),
      map_(map),
      verifier_(verifier),
      committer_(committer),
      memory_max_(options.memory_bytes),
      on_failure_(std::move(options.on_failure)) {
  for (unsigned i = 0; i < options.thread_count; ++i) threads_.emplace_back([this] { work(); });
}

// The threads end only when the queue is empty (work()), so every block that has arrived is written and every
// request is answered before the members are destroyed.
PieceStore::~PieceStore() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    enqueue_all();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

// ---- Requests of the network ----

bool PieceStore::write(std::uint64_t piece, std::uint64_t offset_bytes, base::Bytes block, Done done,
                       std::function<void()> on_room) {
  INVARIANT(offset_bytes % kBlockBytes == 0 && block.size() <= kBlockBytes);
  // The block is copied, because libtorrent owns the buffer and reuses it when this function returns. The
  // copy is made before the mutex is taken, so that it does not hold up the store's threads.
  PendingBlock fresh{offset_bytes / kBlockBytes, {block.begin(), block.end()}, std::move(done)};
  std::unique_lock lock(mutex_);
  ActivePiece& found = find_or_add(piece);
  found.seen_bytes += block.size();
  unfinished_bytes_ += block.size();
  memory_bytes_ += block.size();
  found.fresh.push_back(std::move(fresh));
  // A piece is worked on when it has enough blocks for one large write, or all of its blocks. Below half of
  // the memory single blocks may wait, because fewer and larger writes are faster.
  if (found.fresh.size() >= kRunBlocks || found.seen_bytes >= map_.piece_bytes(piece)) enqueue(found);
  if (memory_bytes_ > memory_max_ / 2) enqueue_all();
  if (memory_bytes_ <= memory_max_) return true;
  room_waiters_.push_back(std::move(on_room));
  // Blocks that are only kept for SHA-1 can be read back later, so they make room at once.
  for (auto& [index, other] : pieces_) {  // their missing blocks may never arrive, and room must become free
    if (!other->busy) free_kept(*other);  // the thread of a busy piece uses its kept blocks without the mutex
  }
  // libtorrent passes on everything that it has received from each peer before it stops reading.
  freed_.wait(lock, [this] { return memory_bytes_ <= memory_max_ + std::max(memory_max_, kRoomBytesMin); });
  return false;
}

void PieceStore::read(std::uint64_t piece, std::uint64_t offset_bytes, base::MutableBytes out, Done done) {
  // A read takes its turn in the queue of its piece, behind the blocks that arrived before it. A peer that
  // asks for a block that was received a moment ago therefore gets its bytes and not those that the disk had
  // before.
  add_job(piece, [this, offset_bytes, out, done = std::move(done)](ActivePiece& found) {
    Failure failure;
    try {
      if (!files_.read(found.index, offset_bytes, out))
        failure.emplace(base::ErrorKind::io,
                        "piece " + std::to_string(found.index) + ": a file of it is missing or too short");
    } catch (const base::Error& error) {
      failure = error;
    }
    done(failure);
  });
}

// libtorrent asks for the hash after it has passed on the last block, so in a transfer this request also
// means that the piece is complete.
void PieceStore::hash(std::uint64_t piece, Hashed done) {
  add_job(piece, [this, done = std::move(done)](ActivePiece& found) {
    HashResult result = finish(found);
    done(std::move(result));
  });
}

void PieceStore::hash_block(std::uint64_t piece, std::uint64_t offset_bytes,
                            std::function<void(const base::Sha256&, const Failure&)> done) {
  add_job(piece, [this, offset_bytes, done = std::move(done)](ActivePiece& found) {
    base::Sha256 digest;
    Failure failure;
    try {
      // BEP 52: a piece holds bytes of one file, and only these have leaves. The digest is computed from the
      // disk and not taken from `leaves`, which are dropped when the piece is complete.
      const PieceSlice slice = map_.slices(found.index).front();
      INVARIANT(offset_bytes < slice.length_bytes);
      std::vector<std::byte> block(std::min(kBlockBytes, slice.length_bytes - offset_bytes));
      files_.read(found.index, offset_bytes, block);
      digest = base::hash<base::Sha256>(block);
    } catch (const base::Error& error) {
      failure = error;
    }
    done(digest, failure);
  });
}

// libtorrent calls this when a piece had the wrong hash. It fetches the piece again, so nothing that was
// learnt of the old blocks may survive: neither leaves and kept blocks, nor the flags in the journal.
void PieceStore::forget(std::uint64_t piece, std::function<void()> done) {
  add_job(piece, [this, done = std::move(done)](ActivePiece& found) {
    drop_kept(found);
    found.forget();
    {
      const std::lock_guard lock(mutex_);
      close(found);
      // The journal may name blocks of the piece, and the next run must not count them as present.
      wrong_.push_back({found.index, std::vector<bool>(found.block_count)});
    }
    done();
  });
}

// The waiters are called here, too: if the store is idle already, no thread would come by and call them.
void PieceStore::flush(std::function<void()> done) {
  std::unique_lock lock(mutex_);
  flush_waiters_.push_back(std::move(done));
  enqueue_all();
  call_waiters(lock);
}

std::uint64_t PieceStore::unfinished_bytes() const {
  const std::lock_guard lock(mutex_);
  return unfinished_bytes_;
}

void PieceStore::restore(const PartialPiece& piece) {
  const std::lock_guard lock(mutex_);
  ActivePiece& found = find_or_add(piece.index);
  // The blocks are not hashed yet: finish() reads back every block without a leaf or behind sha1_blocks.
  found.written = piece.blocks;
  for (std::uint64_t block = 0; block < found.block_count; ++block)
    if (found.written[block])
      found.seen_bytes += std::min(kBlockBytes, map_.piece_bytes(piece.index) - block * kBlockBytes);
  unfinished_bytes_ += found.seen_bytes;
}

std::vector<PartialPiece> PieceStore::take_partial() {
  const std::lock_guard lock(mutex_);
  std::vector<PartialPiece> partial = std::exchange(wrong_, {});
  for (auto& [index, piece] : pieces_)
    if (std::exchange(piece->written_dirty, false)) partial.push_back({index, piece->written});
  return partial;
}

// ---- The queue; these functions need mutex_ held ----

PieceStore::ActivePiece& PieceStore::find_or_add(std::uint64_t piece) {
  auto& found = pieces_[piece];
  if (!found) {
    found = std::make_unique<ActivePiece>();
    found->index = piece;
    found->block_count = base::divide_up(map_.piece_bytes(piece), kBlockBytes);
    found->written.resize(found->block_count);
  }
  return *found;
}

/// Resets a piece that is complete or wrong. Blocks that arrived meanwhile stay queued.
void PieceStore::close(ActivePiece& piece) {
  std::uint64_t fresh_bytes = 0;
  for (const PendingBlock& block : piece.fresh) fresh_bytes += block.bytes.size();
  unfinished_bytes_ -= piece.seen_bytes - fresh_bytes;
  piece.seen_bytes = fresh_bytes;
  piece.written.assign(piece.block_count, false);
  piece.written_dirty = false;
}

void PieceStore::enqueue(ActivePiece& piece) {
  if (piece.queued || piece.busy) return;  // the thread of a busy piece looks for new requests itself
  piece.queued = true;
  ready_.push_back(&piece);
  changed_.notify_one();
}

void PieceStore::enqueue_all() {
  for (auto& [index, piece] : pieces_)
    if (!piece->fresh.empty() || !piece->jobs.empty()) enqueue(*piece);
}

// The blocks are on the disk, and complete_sha1() reads back whatever it does not find in `kept`.
void PieceStore::free_kept(ActivePiece& piece) {
  memory_bytes_ -= piece.kept_bytes();
  piece.kept.clear();
  freed_.notify_all();
}

void PieceStore::add_job(std::uint64_t piece, Job job) {
  const std::lock_guard lock(mutex_);
  ActivePiece& found = find_or_add(piece);
  found.jobs.push_back(std::move(job));
  enqueue(found);
}

// ---- The threads ----

// The main loop of a thread. The mutex is held except inside work_on(), where requests are executed, and
// inside call_waiters(). A piece is removed from `pieces_` only here, at a moment when it is neither queued
// nor busy, so a pointer in `ready_` is always valid.
void PieceStore::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !ready_.empty(); });
    // The destructor has set ending_; with requests left the threads go on.
    if (ready_.empty()) return;
    ActivePiece& piece = *ready_.front();
    ready_.pop_front();
    piece.queued = false;
    piece.busy = true;
    work_on(piece, lock);
    if (!room_waiters_.empty()) free_kept(piece);  // write() could not free these: the piece was busy
    piece.busy = false;
    // A piece without any block was only read or hashed, or is complete: nothing of it must be remembered.
    if (piece.seen_bytes == 0) {
      free_kept(piece);
      pieces_.erase(piece.index);
    }
    call_waiters(lock);
  }
}

/// Works until the piece has neither fresh blocks nor jobs.
void PieceStore::work_on(ActivePiece& piece, std::unique_lock<std::mutex>& lock) {
  while (!piece.fresh.empty() || !piece.jobs.empty()) {
    if (!piece.fresh.empty()) {
      std::vector<PendingBlock> blocks = std::exchange(piece.fresh, {});
      lock.unlock();
      process_blocks(piece, blocks);
      lock.lock();
      call_waiters(lock);
      continue;  // blocks come before jobs, because a hash request needs all blocks that arrived before it
    }
    const std::vector<Job> jobs = std::exchange(piece.jobs, {});
    lock.unlock();
    for (const Job& job : jobs) job(piece);
    lock.lock();
  }
}

/// Hashes the blocks, writes them, and answers their requests, in this order. `leaf_bytes` is the length of
/// the piece's part of its file: BEP 52 hashes the last block of a file without padding, while SHA-1 covers
/// the padding.
void PieceStore::process_blocks(ActivePiece& piece, std::vector<PendingBlock>& blocks) {
  std::ranges::sort(blocks, {}, &PendingBlock::index);
  const std::uint64_t leaf_bytes = verifier_.uses_node() ? map_.slices(piece.index).front().length_bytes : 0;
  std::vector<base::Bytes> messages;
  for (const PendingBlock& block : blocks) {
    const std::uint64_t start = block.index * kBlockBytes;
    if (start >= leaf_bytes) break;  // padding, or a v1 torrent
    messages.push_back(
        base::Bytes(block.bytes).first(std::min<std::uint64_t>(block.bytes.size(), leaf_bytes - start)));
  }
  // One call for all blocks, because the hasher computes several digests at a time in SIMD lanes.
  std::vector<base::Sha256> digests(messages.size());
  base::hash_each(messages, digests);
  piece.leaves.resize(verifier_.leaf_count(piece.index));
  for (std::size_t i = 0; i < digests.size(); ++i) piece.leaves.at(blocks[i].index) = digests[i];
  // A failed write is remembered in the piece before any request is answered. The leaves in memory say
  // nothing about it, and finish() must not find the piece right.
  const Failure failure = write_blocks(piece, blocks);
  if (failure) piece.failure = failure;
  if (failure && on_failure_) on_failure_(*failure);
  if (!failure) record_written(piece, blocks);
  for (PendingBlock& block : blocks) block.done(failure);
  keep_or_free(piece, blocks);
}

/// Writes adjacent blocks with one call.
PieceStore::Failure PieceStore::write_blocks(ActivePiece& piece, std::vector<PendingBlock>& blocks) {
  try {
    // A run is one buffer, because files_.write() splits plain bytes where the run crosses the border of two
    // files.
    std::vector<std::byte> run;
    run.reserve(std::min(blocks.size(), kRunBlocks) * kBlockBytes);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      run.insert(run.end(), blocks[i].bytes.begin(), blocks[i].bytes.end());
      // A short block ends a run: it is the last of its piece.
      const bool goes_on = i + 1 < blocks.size() && blocks[i + 1].index == blocks[i].index + 1 &&
                           blocks[i].bytes.size() == kBlockBytes;
      if (goes_on && run.size() < kRunBlocks * kBlockBytes) continue;
      const std::uint64_t end = blocks[i].index * kBlockBytes + blocks[i].bytes.size();
      files_.write(piece.index, end - run.size(), run);
      run.clear();
    }
  } catch (const base::Error& error) {
    return error;
  }
  return std::nullopt;
}

void PieceStore::record_written(ActivePiece& piece, const std::vector<PendingBlock>& blocks) {
  const std::lock_guard lock(mutex_);
  for (const PendingBlock& block : blocks) piece.written[block.index] = true;
  piece.written_dirty = true;
}

// SHA-1 runs over the piece from front to back, so a block that arrives early is kept until the blocks before
// it are there. A v2 torrent needs none of this: its leaves are independent of each other.
void PieceStore::keep_or_free(ActivePiece& piece, std::vector<PendingBlock>& blocks) {
  std::uint64_t free_bytes = 0;
  for (PendingBlock& block : blocks) {
    // A block can arrive twice, and try_emplace() moves its bytes only when it inserts them. The bytes of the
    // second copy stay in `block` and are counted as free.
    if (verifier_.uses_sha1() && block.index >= piece.sha1_blocks &&
        piece.kept.try_emplace(block.index, std::move(block.bytes)).second)
      continue;
    free_bytes += block.bytes.size();
  }
  release(free_bytes);
  advance_sha1(piece);
  bool short_of_memory = false;
  {
    const std::lock_guard lock(mutex_);
    // call_waiters() gives room at half of the limit, so the store must get there without further blocks.
    short_of_memory = memory_bytes_ > (room_waiters_.empty() ? memory_max_ * 3 / 4 : memory_max_ / 2);
  }
  if (short_of_memory) drop_kept(piece);
}

void PieceStore::drop_kept(ActivePiece& piece) {
  release(piece.kept_bytes());
  piece.kept.clear();
}

// Feeds SHA-1 with kept blocks as long as there is no gap, and frees their memory.
void PieceStore::advance_sha1(ActivePiece& piece) {
  std::uint64_t free_bytes = 0;
  auto block = piece.kept.begin();
  while (block != piece.kept.end() && block->first == piece.sha1_blocks) {
    piece.sha1.update(block->second);
    ++piece.sha1_blocks;
    free_bytes += block->second.size();
    block = piece.kept.erase(block);
  }
  release(free_bytes);
}

void PieceStore::release(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  memory_bytes_ -= bytes;
  freed_.notify_all();
}

/// Hashes the whole piece; blocks that were not hashed from memory are read back.
PieceStore::HashResult PieceStore::finish(ActivePiece& piece) {
  HashResult result;
  result.failure = piece.failure;
  // After a failed write the digest is not even computed: libtorrent gets the error, and the committer never
  // hears of the piece.
  if (!piece.failure) compute(piece, result);
  drop_kept(piece);
  piece.forget();
  const std::lock_guard lock(mutex_);
  close(piece);
  return result;
}

/// Sets the digests of `result`, and hands the piece to the committer when it arrived through this store and
/// does not contradict the torrent.
void PieceStore::compute(ActivePiece& piece, HashResult& result) {
  try {
    if (verifier_.uses_node()) {
      complete_leaves(piece);
      for (const auto& leaf : piece.leaves) result.leaves.push_back(*leaf);
      result.digest.node = verifier_.to_node(piece.index, result.leaves);
    }
    if (verifier_.uses_sha1()) result.digest.sha1 = complete_sha1(piece);
    // A piece whose hash is not known yet is committed, too: the journal keeps its digest, and the next run
    // compares it.
    bool arrived = false;  // false when libtorrent only checks what is on the disk
    {
      const std::lock_guard lock(mutex_);
      arrived = piece.seen_bytes > 0;
    }
    result.match = verifier_.verify(piece.index, result.digest);
    if (arrived && on_failure_ && verifier_.is_contradiction(piece.index, result.digest))
      on_failure_(base::Error(base::ErrorKind::malformed,
                              "piece " + std::to_string(piece.index) +
                                  " matches one of its v1 and v2 hashes and not the other: the torrent "
                                  "contradicts itself, and no data can match it"));
    if (committer_ != nullptr && arrived && result.match != MatchResult::mismatch)
      committer_->add(piece.index, result.digest);
  } catch (const base::Error& error) {
    result.failure = error;
  }
}

// Hashes from the disk the blocks that have no leaf: they arrived in an earlier run of the worker and were
// restored from the journal.
void PieceStore::complete_leaves(ActivePiece& piece) const {
  const std::uint64_t end = map_.slices(piece.index).front().length_bytes;
  piece.leaves.resize(verifier_.leaf_count(piece.index));
  std::vector<std::byte> block;
  for (std::uint64_t i = 0; i < piece.leaves.size(); ++i) {
    if (piece.leaves[i]) continue;
    block.resize(std::min(kBlockBytes, end - i * kBlockBytes));
    files_.read(piece.index, i * kBlockBytes, block);
    piece.leaves[i] = base::hash<base::Sha256>(block);
  }
}

// Continues SHA-1 to the end of the piece, with kept blocks where they exist and with reads from the disk
// elsewhere.
base::Sha1 PieceStore::complete_sha1(ActivePiece& piece) {
  const std::uint64_t piece_bytes = map_.piece_bytes(piece.index);
  std::vector<std::byte> buffer;
  while (piece.sha1_blocks < piece.block_count) {
    const std::uint64_t start = piece.sha1_blocks * kBlockBytes;
    // The gap before the next kept block; advance_sha1() then takes the kept blocks behind it.
    const std::uint64_t next = piece.kept.empty() ? piece_bytes : piece.kept.begin()->first * kBlockBytes;
    buffer.resize(std::min(next - start, kReadBytes));
    files_.read(piece.index, start, buffer);
    piece.sha1.update(buffer);
    piece.sha1_blocks += base::divide_up(buffer.size(), kBlockBytes);
    advance_sha1(piece);
  }
  return piece.sha1.final();
}

// Calls the handlers whose condition holds, without the mutex, because they call back into libtorrent. Flush
// handlers need an idle store, and it is not idle while another thread is inside a handler, which may make
// new requests. The thread that returns last therefore tries again. An idle store also gives room, however
// much memory it holds: nothing else would.
void PieceStore::call_waiters(std::unique_lock<std::mutex>& lock) {
  std::vector<std::function<void()>> waiters;
  if (memory_bytes_ <= memory_max_ / 2) waiters = std::exchange(room_waiters_, {});
  if (!flush_waiters_.empty()) {
    const bool idle =
        calling_ == 0 && ready_.empty() && std::ranges::none_of(pieces_, [](const auto& piece) {
          return piece.second->busy || !piece.second->fresh.empty() || !piece.second->jobs.empty();
        });
    if (idle) {
      for (auto& waiter : flush_waiters_) waiters.push_back(std::move(waiter));
      flush_waiters_.clear();
      for (auto& waiter : std::exchange(room_waiters_, {})) waiters.push_back(std::move(waiter));
    }
  }
  if (waiters.empty()) return;
  ++calling_;
  lock.unlock();
  for (const auto& waiter : waiters) waiter();
  lock.lock();
  --calling_;
  if (calling_ == 0 && !flush_waiters_.empty()) call_waiters(lock);
}

// This function uses neither the queue nor an ActivePiece, so several threads may call it at once; resume()
// does.
std::optional<PieceDigest> PieceStore::digest_on_disk(std::uint64_t piece) const {
  const std::uint64_t piece_bytes = map_.piece_bytes(piece);
  const std::uint64_t leaf_bytes = verifier_.uses_node() ? map_.slices(piece).front().length_bytes : 0;
  base::Hasher<base::Sha1> sha1;
  base::LeafHasher leaves;
  std::vector<std::byte> buffer;
  for (std::uint64_t offset = 0; offset < piece_bytes; offset += buffer.size()) {
    buffer.resize(std::min(kReadBytes, piece_bytes - offset));
    if (!files_.read(piece, offset, buffer)) return std::nullopt;
    if (verifier_.uses_sha1()) sha1.update(buffer);
    if (offset < leaf_bytes)
      leaves.update(base::Bytes(buffer).first(std::min<std::uint64_t>(buffer.size(), leaf_bytes - offset)));
  }
  PieceDigest digest;
  if (verifier_.uses_sha1()) digest.sha1 = sha1.final();
  if (verifier_.uses_node()) digest.node = verifier_.to_node(piece, leaves.final());
  return digest;
}

std::vector<base::Sha256> PieceStore::block_digests_on_disk(std::uint64_t piece) const {
  const std::uint64_t piece_bytes = map_.piece_bytes(piece);
  std::vector<base::Sha256> digests;
  std::vector<std::byte> block;
  for (std::uint64_t offset = 0; offset < piece_bytes; offset += block.size()) {
    block.resize(std::min(kBlockBytes, piece_bytes - offset));
    try {
      if (!files_.read(piece, offset, block)) return {};
    } catch (const base::Error&) {
      return {};  // blame can wait; whoever needs the piece meets the error and reports it
    }
    digests.push_back(base::hash<base::Sha256>(block));
  }
  return digests;
}

}  // namespace sluice::fetch
