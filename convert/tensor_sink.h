#pragma once
// Where a TensorPipeline puts the tensors that it has converted.

#include "base/bytes.h"
#include "base/digest.h"
#include "base/leaf_queue.h"
#include "convert/quantize.h"
#include "format/container_format.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// Called as format::ContainerWriter is: all bytes of a tensor go to both write() and hash(), which may be
/// called at the same time, and after the last write() the same thread calls finish_write(). `leaves` are all
/// hashed, by whomever, before end_tensor().
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
