#pragma once
// A tensor on its way from checkpoint to sink, and the blocks of rows in which it travels. TensorPipeline
// decides which thread calls what, and when.

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

/// Bounds on the released bytes of a block.
struct BlockSize {
  std::uint64_t good_bytes = 0;  ///< for most tensors
  std::uint64_t most_bytes = 0;  ///< for transposed tensors, which are read faster in larger blocks
};

/// The state that the blocks of one tensor share.
class InFlightTensor {
 public:
  InFlightTensor(const TensorJob& tensor_job, BlockSize size);

  [[nodiscard]] const PlannedTensor& planned() const { return *job.tensor; }
  /// The digest of the released bytes, once all blocks are done.
  [[nodiscard]] base::Sha256 source_digest();

  const TensorJob& job;
  const TensorSource source;
  /// Rows of a block: whole panels, and whole leaves of the tree over the released bytes unless that takes
  /// too many rows.
  const std::uint64_t block_rows;
  const bool whole_leaves;  ///< blocks end where leaves end, so that leaves can be hashed in any order

  const GptqFactors* factors = nullptr;
  std::vector<base::Sha256> source_leaves;
  base::LeafHasher source_hasher;  // used instead of source_leaves without whole_leaves
  // The planes that follow the codes, for the panels encoded so far:
  std::vector<std::byte> exponents;
  std::vector<std::byte> magnitudes;
  std::vector<std::byte> signs;
  std::vector<std::byte> row_scales;
  QuantError error;
};

/// The encoder and scratch memory of one thread.
struct BlockEncoder {
  PanelEncoder panels;
  std::vector<float> values;
};

class TensorBlock {
 public:
  /// Makes this the block of `tensor` that begins at `first_row`; memory is reused.
  void assign(std::shared_ptr<InFlightTensor> tensor, std::uint64_t first_row);

  [[nodiscard]] InFlightTensor& tensor() const { return *tensor_; }
  [[nodiscard]] bool is_first() const { return first_row_ == 0; }
  [[nodiscard]] bool is_last() const { return first_row_ + rows_ == tensor_->source.rows(); }
  [[nodiscard]] std::uint64_t end_row() const { return first_row_ + rows_; }
  [[nodiscard]] std::uint64_t released_bytes() const { return rows_ * tensor_->source.row_bytes(); }

  void read();

  /// Any number of threads encode strips (panel_encoder.h) at once, each strip once, between begin_encoding()
  /// and end_encoding(). begin_encoding() puts the leaves of the released bytes into leaves().
  void begin_encoding();
  [[nodiscard]] std::size_t strip_count() const { return strip_count_; }
  void encode(std::size_t strip, BlockEncoder& encoder);
  /// Called for the blocks of a tensor in their order.
  void end_encoding();

  /// The bytes for the sink, first the codes, then the planes, once the encoding has ended.
  [[nodiscard]] base::Bytes codes();
  [[nodiscard]] base::Bytes planes() const { return planes_; }

  [[nodiscard]] base::LeafQueue& leaves() { return leaves_; }

 private:
  [[nodiscard]] base::Bytes released() { return base::Bytes(bytes_.bytes()).first(released_bytes()); }
  [[nodiscard]] std::size_t panel_count() const;
  [[nodiscard]] base::Bytes rows_of_strip(std::size_t strip, std::uint64_t& first_row);
  [[nodiscard]] std::size_t value_count(base::Bytes rows) const;
  void encode_tiles(std::size_t strip, BlockEncoder& encoder);
  void encode_rows(std::size_t strip, BlockEncoder& encoder);

  std::shared_ptr<InFlightTensor> tensor_;
  std::uint64_t first_row_ = 0;
  std::uint64_t rows_ = 0;
  std::size_t strip_count_ = 0;
  base::AlignedBuffer bytes_{0};    // released, row-major
  base::AlignedBuffer encoded_{0};  // codes, or rows
  std::vector<EncodedPanel> panels_;
  std::vector<std::byte> planes_;  // of the whole matrix, in its last block
  base::LeafQueue leaves_;
};

}  // namespace sluice::convert
