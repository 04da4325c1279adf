#pragma once
// A tensor on its way from checkpoint to sink, and the blocks of rows that it goes in. Who may do what when
// is TensorPipeline's business.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/leaf_queue.h"
#include "base/merkle.h"
#include "convert/panel_encoder.h"
#include "convert/plan.h"
#include "format/tensor_source.h"

namespace sluice::convert {

struct TensorJob {
  const PlannedTensor* tensor = nullptr;
  const base::File* file = nullptr;
  std::uint64_t expert_bytes = 0;  ///< as in format::ContainerWriter::begin_tensor
};

/// Of released values.
struct BlockSize {
  std::uint64_t good_bytes = 0;
  std::uint64_t most_bytes = 0;  ///< for tensors that are read better in larger ones
};

/// What the blocks of a tensor share.
class TensorInWork {
 public:
  TensorInWork(const TensorJob& tensor_job, BlockSize size);

  [[nodiscard]] const PlannedTensor& planned() const { return *job.tensor; }
  /// Once all blocks are done.
  [[nodiscard]] base::Sha256 source_digest();

  const TensorJob& job;
  const TensorSource source;
  /// In a block: whole panels, and whole leaves of the tree over the released bytes where that does not take
  /// too many rows.
  const std::uint64_t block_rows;
  const bool whole_leaves;

  const Compensation* compensation = nullptr;
  std::vector<base::Sha256> source_leaves;
  base::LeafHasher source_hasher;  // where blocks do not end with leaves
  // Planes that come after all codes, as far as their panels are there:
  std::vector<std::byte> magnitudes;
  std::vector<std::byte> signs;
  std::vector<std::byte> row_scales;
  QuantError error;
};

/// A thread's tools.
struct BlockEncoder {
  PanelEncoder panels;
  std::vector<float> values;
};

class TensorBlock {
 public:
  /// The next one to go through here; memory is used again.
  void assign(std::shared_ptr<TensorInWork> tensor, std::uint64_t first_row);

  [[nodiscard]] TensorInWork& tensor() const { return *tensor_; }
  [[nodiscard]] bool is_first() const { return first_row_ == 0; }
  [[nodiscard]] bool is_last() const { return first_row_ + rows_ == tensor_->source.rows(); }
  [[nodiscard]] std::uint64_t end_row() const { return first_row_ + rows_; }
  [[nodiscard]] std::uint64_t released_bytes() const { return rows_ * tensor_->source.row_bytes(); }

  void read();

  /// Strips are encoded by any number of threads at once, each strip once. The leaves of the released bytes
  /// go into leaves().
  void begin_encoding();
  [[nodiscard]] std::size_t strip_count() const { return strip_count_; }
  void encode(std::size_t strip, BlockEncoder& encoder);
  /// Of the tensor's blocks in their order.
  void end_encoding();

  /// What goes into the sink, one after the other, once the encoding has ended.
  [[nodiscard]] base::Bytes codes();
  [[nodiscard]] base::Bytes planes() const { return planes_; }

  [[nodiscard]] base::LeafQueue& leaves() { return leaves_; }

 private:
  [[nodiscard]] base::Bytes released() { return base::Bytes(bytes_.bytes()).first(released_bytes()); }
  [[nodiscard]] std::size_t panel_count() const;
  [[nodiscard]] base::Bytes rows_of_strip(std::size_t strip, std::uint64_t& first_row);
  void encode_tiles(std::size_t strip, BlockEncoder& encoder);
  void encode_rows(std::size_t strip, BlockEncoder& encoder);

  std::shared_ptr<TensorInWork> tensor_;
  std::uint64_t first_row_ = 0;
  std::uint64_t rows_ = 0;
  std::size_t strip_count_ = 0;
  base::AlignedBuffer bytes_{0};    // released, row-major
  base::AlignedBuffer encoded_{0};  // codes, or rows
  std::vector<EncodedPanel> panels_;
  std::vector<std::byte> planes_;  // the last block's
  base::LeafQueue leaves_;
};

}  // namespace sluice::convert
