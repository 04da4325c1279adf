#pragma once
// Streams tensors from checkpoint to sink, as one stream of blocks of rows. A block is read, encoded, hashed
// and written, while others are at other steps, be they of the same tensor or not. Reading and writing have a
// thread each, and the file's SHA-256 is fed by one thread at a time; all else is cut into small pieces. Each
// worker takes what there is to do, and waits only when there is nothing. Blocks are whole panels, so that
// the bytes do not depend on the number of threads.

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <vector>

#include "base/parallel.h"
#include "base/progress.h"
#include "base/task_thread.h"
#include "convert/tensor_block.h"
#include "convert/tensor_sink.h"

namespace sluice::convert {

/// Of one conversion.
class TensorPipeline {
 public:
  /// Called when the encoding of a tensor begins, and that of the ones before it has ended; what it returns,
  /// null or not, has to live until the next call. All others wait for it.
  using FindCompensation = std::function<const Compensation*(const PlannedTensor&)>;

  TensorPipeline(TensorSink& sink, BlockSize size, unsigned thread_count, base::Progress& progress,
                 const std::stop_token& stop);

  /// With which the blocks stay within the memory.
  [[nodiscard]] static BlockSize block_size(std::uint64_t memory_bytes, unsigned thread_count);

  /// Converts the tensors one after the other. Once.
  void run(std::span<const TensorJob> jobs, FindCompensation find_compensation = {});

 private:
  static constexpr std::size_t kBlocks = 4;

  /// A block and how far it is.
  struct Slot {
    TensorBlock block;
    std::size_t strips_begun = 0;
    std::size_t strips_ended = 0;
    bool written = false;

    [[nodiscard]] bool is_encoded() const { return strips_ended == block.strip_count(); }
  };
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] Slot& slot(std::uint64_t number) { return slots_[number % kBlocks]; }
  [[nodiscard]] bool is_finished() const { return next_job_ == jobs_.size() && retired_ == planned_; }

  void work(unsigned worker);
  [[nodiscard]] bool take_turn(Lock& lock, unsigned worker);
  [[nodiscard]] bool hash_block(Lock& lock);
  [[nodiscard]] bool encode_strip(Lock& lock, unsigned worker);
  [[nodiscard]] bool begin_block();
  [[nodiscard]] bool hash_leaves(Lock& lock);
  void retire_blocks();
  void plan_blocks();

  void read(Slot& slot);
  void write(Slot& slot);
  void fail(std::exception_ptr failure);

  TensorSink& sink_;
  const BlockSize block_size_;
  base::WorkerPool pool_;
  base::Progress& progress_;
  const std::stop_token& stop_;
  std::vector<BlockEncoder> encoders_;  // one a worker
  std::span<const TensorJob> jobs_;
  FindCompensation find_compensation_;

  std::mutex mutex_;  // of what follows, but for what the blocks hold
  std::condition_variable changed_;
  std::exception_ptr failure_;
  std::array<Slot, kBlocks> slots_;
  // The next block to plan: of which tensor, from which row on.
  std::size_t next_job_ = 0;
  std::uint64_t next_row_ = 0;
  std::shared_ptr<TensorInWork> tensor_;
  // How many blocks have come so far, none of these further than the one above it.
  std::uint64_t planned_ = 0;  // and are to be read
  std::uint64_t read_ = 0;
  std::uint64_t begun_ = 0;  // to be encoded
  std::uint64_t hashed_ = 0;
  std::uint64_t retired_ = 0;  // nothing more is to be done
  bool hashing_ = false;

  // They end before the blocks do.
  base::TaskThread reader_;
  base::TaskThread writer_;
};

}  // namespace sluice::convert
