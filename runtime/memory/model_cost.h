#pragma once
// What computing one token costs, as far as it follows from the model: weights that are read, and operations.

#include <cstdint>
#include <vector>

#include "format/container_format.h"
#include "format/model_description.h"

namespace sluice::runtime {

/// Bytes of weights that decoding one token reads: all tensors but the embedding, of the experts as many as a
/// token uses (where their types differ, of average size). `tensors` are the container's.
[[nodiscard]] std::uint64_t decode_bytes_per_token(const format::ModelDescription& description,
                                                   const std::vector<format::ContainerTensor>& tensors);

/// Operations of the matrix products of one prompt token: two for each weight of mixers, routers and the
/// experts that it uses. The head is left out, for most prompt tokens do not go through it.
[[nodiscard]] std::uint64_t prefill_operations_per_token(const format::ModelDescription& description);

}  // namespace sluice::runtime
