#pragma once
// Decodes the quantized blocks of GGUF tensors to floats.

#include <span>

#include "base/bytes.h"
#include "format/tensor.h"

namespace sluice::format {

/// Decodes blocks of a type with block_weights(type) > 1. `out` has the weights of all the blocks in
/// `blocks`. Every value has the bits that ggml's dequantize_row_* gives: the same float operations in the
/// same order. A scale that is infinite or NaN gives infinities and NaNs. Thread-safe.
void dequantize(DType type, base::Bytes blocks, std::span<float> out);

}  // namespace sluice::format
