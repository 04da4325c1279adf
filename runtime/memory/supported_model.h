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
  std::uint64_t dim = 0;  ///< width of the residual stream
  std::uint64_t n_layers = 0;
  std::uint64_t head_dim = 0;
  std::uint64_t hidden_dim = 0;  ///< inner width of the feed-forward, or of one expert
  std::uint64_t n_heads = 0;
  std::uint64_t n_kv_heads = 0;
  std::uint64_t vocab_size = 0;
  bool routed = false;            ///< false: a dense model, which is computed as one expert without router
  std::uint64_t num_experts = 1;  ///< in a layer
  std::uint64_t num_experts_per_tok = 1;
  double norm_eps = 0;
  double rope_theta = 0;
  std::optional<std::uint64_t> sliding_window;  ///< tokens
};

/// Error{malformed} "SUBJECT: layer 3: mixer gated-delta-net is not supported yet" for a description, valid
/// by format::validate(), that the forward pass does not compute.
[[nodiscard]] DecoderShape require_supported(const format::ModelDescription& description,
                                             std::string_view subject);

}  // namespace sluice::runtime
