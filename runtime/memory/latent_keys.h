#pragma once
// The matrices that take queries to the space of the latents (arXiv 2405.04434 section 2.1.2): for each head
// the transpose of its plain keys' rows of the released matrix [heads x (plain_dims + value_dims),
// latent_rank]. A copy, because tiles are multiplied along one axis only
// (docs/decisions/0039-latent-attention-absorbed.md).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "format/model_description.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/products.h"

namespace sluice::runtime {

/// Immutable once made; moving it leaves the matrices valid.
struct LatentKeys {
  /// [head] of [latent_rank, plain_dims]: bf16 as released, or q8 whose integers are those of the released
  /// matrix and whose row scales are one.
  std::vector<Matrix> heads;
  /// [head][plain_dims padded to tiles]: what an input is multiplied by first. The released scales, one a
  /// row, are those of inputs here; one for bf16.
  Buffer<float> input_scales;
  Buffer<std::byte> tiles;  ///< of all heads
};

/// The type of the heads' matrices that transposed_keys() makes of a matrix of this type.
[[nodiscard]] format::TileType latent_key_type(format::TileType type);
/// The bytes that transposed_keys() takes for one layer. Absent when they do not fit 63 bits.
[[nodiscard]] std::optional<std::uint64_t> latent_key_bytes(const format::LatentAttention& attention,
                                                            format::TileType type);
/// Reads all of `key_value`, which must have been verified.
[[nodiscard]] LatentKeys transposed_keys(const format::LatentAttention& attention, const Matrix& key_value);

}  // namespace sluice::runtime
