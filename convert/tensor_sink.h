#pragma once
// The interface to which a TensorPipeline gives the tensors that it has converted.

#include "base/bytes.h"
#include "base/digest.h"
#include "base/leaf_queue.h"
#include "convert/quant_error.h"
#include "format/container_format.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// The calls follow those of format::ContainerWriter. All bytes of a tensor go to both write() and hash(), in
/// order; one thread may be in write() while another is in hash(). After the last write() the writing thread
/// calls finish_write(). The pipeline hashes all `leaves`, on any thread, before it calls end_tensor().
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  virtual void begin_tensor(const format::ModelTensor& tensor, format::Storage storage,
                            format::DType source_dtype, std::uint64_t expert_bytes) = 0;
  virtual void write(base::Bytes bytes) = 0;
  virtual void finish_write() {}
  virtual void hash(base::Bytes bytes, base::LeafQueue& leaves) = 0;
  virtual void end_tensor(const base::Sha256& source_digest, const QuantError& error) = 0;
};

}  // namespace sluice::convert
