// The pipeline of a conversion. Four blocks of rows are in flight, in slots that are used in a ring; the
// counters planned_, read_, begun_, hashed_ and retired_ say how many blocks have passed each step.
//
// Threads. The reader thread reads blocks in order, the writer thread writes them in order. Workers (one of
// them the caller of run()) all execute work(): under the lock they take one turn after another, and drop the
// lock while they compute. A turn is, in this order of preference: feed the next encoded block to the file's
// hash, which one worker at a time can do, so that lost time cannot be made up; encode a strip of the
// youngest block; begin the next block; hash leaves of the SHA-256 trees. A worker waits only when there is
// no turn to take.
//
// Invariants. A tensor begins at the sink only after the previous one has ended there (hash_block waits until
// all earlier blocks are retired). A block is retired when it is written and all its leaves are hashed; only
// then is its slot used again. The first error of any thread is kept in failure_, ends all workers, and run()
// rethrows it.

#include "convert/tensor_pipeline.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace sluice::convert {
namespace {

// A block of this size is still in the caches when it is hashed.
constexpr std::uint64_t kBlockBytesPerThread = 1u << 20;
// A block holds its released bytes and its codes, which may take twice as much.
constexpr std::uint64_t kMemoryPerBlock = 3;

/// Runs `work` without the lock.
template <typename F>
void without(std::unique_lock<std::mutex>& lock, const F& work) {
  lock.unlock();
  work();
  lock.lock();
}

}  // namespace

BlockSize TensorPipeline::block_size(std::uint64_t memory_bytes, unsigned thread_count) {
  const std::uint64_t most = memory_bytes / (kBlocks * kMemoryPerBlock);
  return {std::min(most, std::max(thread_count, 2u) * kBlockBytesPerThread), most};
}

TensorPipeline::TensorPipeline(TensorSink& sink, BlockSize size, unsigned thread_count,
                               base::Progress& progress, const std::stop_token& stop)
    : sink_(sink),
      block_size_(size),
      pool_(thread_count),
      progress_(progress),
      stop_(stop),
      encoders_(pool_.thread_count()) {}

void TensorPipeline::run(std::span<const TensorJob> jobs, FindGptqFactors find_factors) {
  jobs_ = jobs;
  find_factors_ = std::move(find_factors);
  {
    const Lock lock(mutex_);
    plan_blocks();
  }
  pool_.run(pool_.thread_count(), [this](std::size_t, unsigned worker) { work(worker); });
  const Lock lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void TensorPipeline::work(unsigned worker) {
  Lock lock(mutex_);
  try {
    // The condition is checked under the lock, so a notification cannot be lost between check and wait.
    while (!failure_) {
      if (stop_.stop_requested() && !is_finished())
        throw base::Error(base::ErrorKind::interrupted, "interrupted");
      retire_blocks();
      if (is_finished()) break;
      if (!take_turn(lock, worker)) changed_.wait(lock);
    }
  } catch (...) {
    // An exception may come from inside of without(), where the lock is released.
    if (!lock.owns_lock()) lock.lock();
    if (!failure_) failure_ = std::current_exception();
  }
  changed_.notify_all();
}

/// Does one piece of work; false when there is none. The file's hash comes first, because only one thread at
/// a time can work on it; it hashes leaves interleaved with it. The remaining leaves come last.
bool TensorPipeline::take_turn(Lock& lock, unsigned worker) {
  return hash_block(lock) || encode_strip(lock, worker) || begin_block() || hash_leaves(lock);
}

// Feeds the next block to the file's hash. It also ends the encoding of the block, which must happen in the
// order of blocks, and posts the block to the writer.
bool TensorPipeline::hash_block(Lock& lock) {
  if (hashing_ || hashed_ == begun_ || !slot(hashed_).is_encoded()) return false;
  BlockSlot& hashed = slot(hashed_);
  TensorBlock& block = hashed.block;
  if (block.is_first() && retired_ < hashed_) return false;  // the sink takes one tensor at a time
  hashing_ = true;
  without(lock, [&] {
    block.end_encoding();
    if (block.is_first()) {
      const TensorJob& job = block.tensor().job;
      sink_.begin_tensor(job.tensor->target, job.tensor->storage, job.tensor->source->dtype,
                         job.expert_bytes);
    }
    // Posted before hashing: the write and the hash of one block run at the same time. Both only read its
    // bytes.
    writer_.post([this, &hashed] { write(hashed); });
    sink_.hash(block.codes(), block.leaves());
    sink_.hash(block.planes(), block.leaves());
    progress_.advance(block.released_bytes());
  });
  hashing_ = false;
  ++hashed_;
  changed_.notify_all();
  return true;
}

bool TensorPipeline::encode_strip(Lock& lock, unsigned worker) {
  // Only the youngest block can have strips left: begin_block() runs when no strip is left to begin, because
  // a turn prefers strips.
  if (begun_ == retired_) return false;
  BlockSlot& encoded = slot(begun_ - 1);
  if (encoded.strips_begun == encoded.block.strip_count()) return false;
  const std::size_t strip = encoded.strips_begun++;
  without(lock, [&] { encoded.block.encode(strip, encoders_[worker]); });
  ++encoded.strips_ended;
  if (encoded.is_encoded()) changed_.notify_all();
  return true;
}

// GPTQ factors of the previous expert are dropped when those of the next one are looked up, so the first
// block of a tensor waits until all earlier blocks are encoded.
bool TensorPipeline::begin_block() {
  if (begun_ == read_) return false;
  BlockSlot& begun = slot(begun_);
  if (begun.block.is_first() && find_factors_) {
    for (std::uint64_t number = hashed_; number < begun_; ++number)
      if (!slot(number).is_encoded()) return false;
    begun.block.tensor().factors = find_factors_(begun.block.tensor().planned());
  }
  begun.block.begin_encoding();
  ++begun_;
  changed_.notify_all();
  return true;
}

bool TensorPipeline::hash_leaves(Lock& lock) {
  for (std::uint64_t number = retired_; number < begun_; ++number) {
    base::LeafQueue& leaves = slot(number).block.leaves();
    if (!leaves.is_waiting()) continue;
    without(lock, [&] { leaves.hash_some(); });
    return true;
  }
  return false;
}

/// Retires the oldest blocks that are written and hashed, and plans new ones in their slots.
void TensorPipeline::retire_blocks() {
  while (retired_ < hashed_ && slot(retired_).written && slot(retired_).block.leaves().is_done()) {
    TensorBlock& block = slot(retired_).block;
    if (block.is_last()) sink_.end_tensor(block.tensor().source_digest(), block.tensor().error);
    ++retired_;
    plan_blocks();
    changed_.notify_all();
  }
}

// Assigns the next rows to free slots and posts them to the reader. A tensor's shared state lives until its
// last block is retired.
void TensorPipeline::plan_blocks() {
  while (next_job_ < jobs_.size() && planned_ < retired_ + kBlocks) {
    if (!tensor_) tensor_ = std::make_shared<InFlightTensor>(jobs_[next_job_], block_size_);
    BlockSlot& planned = slot(planned_++);
    planned.block.assign(tensor_, next_row_);
    planned.strips_begun = 0;
    planned.strips_ended = 0;
    planned.written = false;
    next_row_ = planned.block.end_row();
    if (planned.block.is_last()) {
      ++next_job_;
      next_row_ = 0;
      tensor_.reset();
    }
    reader_.post([this, &planned] { read(planned); });
  }
}

void TensorPipeline::read(BlockSlot& slot) {
  try {
    slot.block.read();
  } catch (...) {
    return fail(std::current_exception());
  }
  const Lock lock(mutex_);
  ++read_;
  changed_.notify_all();
}

void TensorPipeline::write(BlockSlot& slot) {
  try {
    sink_.write(slot.block.codes());
    sink_.write(slot.block.planes());
    if (slot.block.is_last()) sink_.finish_write();
  } catch (...) {
    return fail(std::current_exception());
  }
  const Lock lock(mutex_);
  slot.written = true;
  changed_.notify_all();
}

void TensorPipeline::fail(std::exception_ptr failure) {
  const Lock lock(mutex_);
  if (!failure_) failure_ = std::move(failure);
  changed_.notify_all();
}

}  // namespace sluice::convert
