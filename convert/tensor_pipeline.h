#pragma once
// Streams one tensor after the other from checkpoint to sink: while a block of rows is encoded, its
// bytes are hashed, the next block is read and the one before is written. Blocks are a fixed number of
// panels, so the bytes do not depend on the number of threads.

#include <cstdint>
#include <stop_token>
#include <vector>

#include "base/merkle.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "convert/panel_encoder.h"
#include "convert/plan.h"
#include "convert/tensor_sink.h"
#include "format/tensor_source.h"

namespace sluice::convert {

class TensorPipeline {
 public:
  TensorPipeline(TensorSink& sink, std::uint64_t memory_bytes, unsigned thread_count,
                 base::Progress& progress, const std::stop_token& stop);

  /// Converts one tensor; `expert_bytes` as in format::ContainerWriter::begin_tensor. Returns its error sums.
  /// `compensation`: for q4, or none.
  QuantError run(const PlannedTensor& tensor, const base::File& file, std::uint64_t expert_bytes,
                 const Compensation* compensation = nullptr);

 private:
  struct Block {
    std::uint64_t first_row = 0;
    std::uint64_t rows = 0;
    std::vector<std::byte> bytes;      ///< released, row-major
    std::vector<EncodedPanel> panels;  ///< tiled storage
    std::vector<std::byte> encoded;    ///< row storage
  };
  /// Planes that come after all codes of a matrix.
  struct Tail {
    std::vector<std::byte> magnitudes;
    std::vector<std::byte> signs;
    std::vector<std::byte> row_scales;
  };

  [[nodiscard]] std::uint64_t block_rows(const TensorSource& source, format::Storage storage) const;
  void encode(const PlannedTensor& tensor, const TensorSource& source, Block& block, std::size_t part);
  void write(Block& block, QuantError& error);
  void write_tail(const format::TileLayout& layout);

  TensorSink& sink_;
  std::uint64_t block_bytes_;
  base::WorkerPool pool_;
  base::Progress& progress_;
  const std::stop_token& stop_;
  base::LeafHasher source_hasher_;
  Tail tail_;
  const Compensation* compensation_ = nullptr;  // of the tensor at hand
};

}  // namespace sluice::convert
