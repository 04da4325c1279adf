#pragma once
// The model's hyperparameters, from a release's params.json (facts: every dialect that Mistral shipped).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "format/json.h"

namespace sluice::format {

struct ModelParams {
  std::uint64_t dim = 0;  ///< width of the residual stream
  std::uint64_t n_layers = 0;
  std::uint64_t head_dim = 0;
  std::uint64_t hidden_dim = 0;  ///< inner width of one expert
  std::uint64_t n_heads = 0;
  std::uint64_t n_kv_heads = 0;
  std::uint64_t vocab_size = 0;
  std::uint64_t num_experts = 1;  ///< 1: a dense model
  std::uint64_t num_experts_per_tok = 1;
  double norm_eps = 1e-5;
  double rope_theta = 1e6;
  std::optional<std::uint64_t> sliding_window;

  bool operator==(const ModelParams&) const = default;

  /// Dense models name their weights feed_forward.w1, without gate and experts.
  bool dense = false;
};

/// Reads params.json text. A missing rope_theta is 1e6 without sliding window and 1e4 with one
/// (mistral-inference, first MoE version). Missing keys, wrong types, zero sizes, heads that do not divide,
/// or more experts a token than experts throw Error{malformed} naming `subject` and the key.
[[nodiscard]] ModelParams parse_params(std::string_view text, std::string_view subject);

/// The same values under the native keys, and back. Used by the container's directory.
[[nodiscard]] Json to_json(const ModelParams& params);
[[nodiscard]] ModelParams params_from_json(const Json& json, std::string_view subject);

/// Throws unless the values make sense together. parse_params has called it already.
void validate(const ModelParams& params, std::string_view subject);

}  // namespace sluice::format
