#pragma once
// Which of the models that can be described can be computed today: docs/families.md. Every other model is
// refused with the name of the layer and of the property that is missing.

#include <cstdint>
#include <optional>
#include <string_view>

#include "format/model_description.h"

namespace sluice::runtime {

/// The sizes of a model whose layers are all equal: grouped-query attention with interleaved RoPE over whole
/// heads, then a dense feed-forward or a mixture of experts.
struct DecoderShape {
  std::uint64_t width = 0;  ///< of the residual stream
  std::uint64_t layers = 0;
  std::uint64_t heads = 0;      ///< query heads
  std::uint64_t key_heads = 0;  ///< heads of keys, and of values
  std::uint64_t head_dim = 0;
  std::optional<std::uint64_t> window_tokens;  ///< tokens that a token sees, itself included
  double rope_base = 0;
  bool routed = false;        ///< false: a dense model, which is computed as one expert without router
  std::uint64_t experts = 1;  ///< in a layer
  std::uint64_t experts_per_token = 1;
  std::uint64_t hidden_width = 0;  ///< of the feed-forward, or of one expert
  std::uint64_t vocabulary = 0;
  double norm_epsilon = 0;
};

/// Error{malformed} "SUBJECT: layer 3: mixer gated-delta-net is not supported yet" for a description, valid
/// by format::validate(), that the forward pass does not compute.
[[nodiscard]] DecoderShape require_supported(const format::ModelDescription& description,
                                             std::string_view subject);

}  // namespace sluice::runtime
