#pragma once
// Streams tensors from checkpoint to sink, as one stream of blocks of rows. Each block is read, encoded,
// hashed and written, and several blocks, of one tensor or of several, are at different steps at the same
// time. Blocks are whole panels, so the bytes do not depend on the number of threads. tensor_pipeline.cpp
// explains the threads.

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

/// The pipeline of one conversion.
class TensorPipeline {
 public:
  /// Called when the encoding of a tensor is about to begin and that of all earlier tensors has ended. The
  /// factors that it returns must live until the next call; null means that the tensor has none. The lock is
  /// held, so all workers wait for it.
  using FindGptqFactors = std::function<const GptqFactors*(const PlannedTensor&)>;

  TensorPipeline(TensorSink& sink, BlockSize size, unsigned thread_count, base::Progress& progress,
                 const std::stop_token& stop);

  /// The block size with which all blocks together stay within `memory_bytes`.
  [[nodiscard]] static BlockSize block_size(std::uint64_t memory_bytes, unsigned thread_count);

  /// Converts the tensors in order. Called once. Rethrows the first error of any thread.
  void run(std::span<const TensorJob> jobs, FindGptqFactors find_factors = {});

 private:
  static constexpr std::size_t kBlocks = 4;  // blocks in flight

  /// A block in flight and its progress.
  struct BlockSlot {
    TensorBlock block;
    std::size_t strips_begun = 0;
    std::size_t strips_ended = 0;
    bool written = false;

    [[nodiscard]] bool is_encoded() const { return strips_ended == block.strip_count(); }
  };
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] BlockSlot& slot(std::uint64_t number) { return slots_[number % kBlocks]; }
  [[nodiscard]] bool is_finished() const { return next_job_ == jobs_.size() && retired_ == planned_; }

  void work(unsigned worker);
  [[nodiscard]] bool take_turn(Lock& lock, unsigned worker);
  [[nodiscard]] bool hash_block(Lock& lock);
  [[nodiscard]] bool encode_strip(Lock& lock, unsigned worker);
  [[nodiscard]] bool begin_block();
  [[nodiscard]] bool hash_leaves(Lock& lock);
  void retire_blocks();
  void plan_blocks();

  void read(BlockSlot& slot);
  void write(BlockSlot& slot);
  void fail(std::exception_ptr failure);

  TensorSink& sink_;
  const BlockSize block_size_;
  base::WorkerPool pool_;
  base::Progress& progress_;
  const std::stop_token& stop_;
  std::vector<BlockEncoder> encoders_;  // one a worker
  std::span<const TensorJob> jobs_;
  FindGptqFactors find_factors_;

  std::mutex mutex_;  // guards the members below, except the content of the blocks
  std::condition_variable changed_;
  std::exception_ptr failure_;
  std::array<BlockSlot, kBlocks> slots_;
  // The next block to plan: the index of its tensor, its first row, and the tensor's state.
  std::size_t next_job_ = 0;
  std::uint64_t next_row_ = 0;
  std::shared_ptr<InFlightTensor> tensor_;
  // How many blocks have passed each step: planned_ >= read_ >= begun_ >= hashed_ >= retired_.
  std::uint64_t planned_ = 0;  // assigned to a slot and posted to the reader
  std::uint64_t read_ = 0;
  std::uint64_t begun_ = 0;  // encoding has begun
  std::uint64_t hashed_ = 0;
  std::uint64_t retired_ = 0;  // written and all leaves hashed: the slot is free
  bool hashing_ = false;       // a worker is in hash_block()

  // Declared last: these threads end before the blocks that they use are destroyed.
  base::TaskThread reader_;
  base::TaskThread writer_;
};

}  // namespace sluice::convert
