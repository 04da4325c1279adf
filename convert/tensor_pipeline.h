#pragma once
// Streams tensors from checkpoint to sink, as one stream of blocks: while a block of rows is encoded and its
// released bytes are hashed, the next ones are read, and the one before is written and hashed, be it of the
// same tensor or not. Reading and writing have a thread each; the rest is cut into tasks that the workers
// take one by one. Blocks are whole panels, so that the bytes do not depend on the number of threads.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/leaf_queue.h"
#include "base/merkle.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "convert/panel_encoder.h"
#include "convert/plan.h"
#include "convert/tensor_sink.h"
#include "format/tensor_source.h"

namespace sluice::convert {

struct TensorJob {
  const PlannedTensor* tensor = nullptr;
  const base::File* file = nullptr;
  std::uint64_t expert_bytes = 0;  ///< as in format::ContainerWriter::begin_tensor
};

class TensorPipeline {
 public:
  /// Called when the encoding of a tensor begins; what it returns, null or not, has to live until the next
  /// call.
  using FindCompensation = std::function<const Compensation*(const PlannedTensor&)>;

  TensorPipeline(TensorSink& sink, std::uint64_t memory_bytes, unsigned thread_count,
                 base::Progress& progress, const std::stop_token& stop);

  /// Converts the tensors one after the other.
  void run(std::span<const TensorJob> jobs, const FindCompensation& find_compensation = {});

 private:
  struct Block {
    std::size_t job = 0;
    std::shared_ptr<const TensorSource> source;
    std::uint64_t first_row = 0;
    std::uint64_t rows = 0;          // 0: nothing to do
    bool whole_leaves = true;        // of the tree over the released bytes, but for the tensor's last one
    base::AlignedBuffer bytes{0};    // released, row-major
    base::AlignedBuffer encoded{0};  // codes, or rows
    std::vector<EncodedPanel> panels;
    std::vector<std::byte> tail;  // the last block's: planes that come after all codes
    base::Sha256 source_digest;   // the last block's
    QuantError error;             // likewise, of the whole tensor

    [[nodiscard]] bool is_first() const { return first_row == 0; }
    [[nodiscard]] bool is_last() const { return first_row + rows == source->rows(); }
    [[nodiscard]] std::uint64_t byte_count() const { return rows * source->row_bytes(); }
    [[nodiscard]] base::Bytes released() { return base::Bytes(bytes.bytes()).first(byte_count()); }
  };
  /// Where the next block begins.
  struct Cursor {
    std::size_t job = 0;
    std::shared_ptr<const TensorSource> source;
    std::uint64_t row = 0;
  };
  struct Tail {
    std::vector<std::byte> magnitudes;
    std::vector<std::byte> signs;
    std::vector<std::byte> row_scales;
  };

  [[nodiscard]] const PlannedTensor& tensor_of(const Block& block) const { return *jobs_[block.job].tensor; }
  [[nodiscard]] std::uint64_t block_rows(const TensorSource& source, format::Storage storage) const;
  void plan_block(Cursor& cursor, Block& block) const;
  static void read(Block& block);
  void compute(Block& encoding, Block& writing, const std::function<void()>& read_ahead);
  void begin_encoding(Block& block, const FindCompensation& find_compensation);
  void encode(Block& block, std::size_t strip, unsigned worker);
  void encode_tiles(Block& block, std::size_t strip, unsigned worker);
  void encode_rows(Block& block, std::size_t strip, unsigned worker);
  void end_encoding(Block& block);
  [[nodiscard]] std::vector<std::byte> take_tail(const format::TileLayout& layout);
  void begin_writing(const Block& block);
  void write(Block& block);
  void hash(Block& block);
  void end_writing(Block& block);
  [[nodiscard]] base::Bytes main_bytes(Block& block) const;
  [[nodiscard]] base::Bytes rows_of_strip(Block& block, std::size_t strip, std::uint64_t& first_row) const;

  TensorSink& sink_;
  std::uint64_t block_bytes_;
  base::WorkerPool pool_;
  base::Progress& progress_;
  const std::stop_token& stop_;
  std::vector<PanelEncoder> encoders_;      // one a worker
  std::vector<std::vector<float>> values_;  // one a worker
  std::span<const TensorJob> jobs_;
  base::LeafQueue leaves_;  // of the blocks that are being encoded and written
  // Of the tensor that is being encoded:
  const Compensation* compensation_ = nullptr;
  std::vector<base::Sha256> source_leaves_;
  base::LeafHasher source_hasher_;  // where blocks do not end with leaves
  Tail tail_;
  QuantError error_;
};

}  // namespace sluice::convert
