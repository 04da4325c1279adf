#pragma once
// The hyperparameters of Mistral's and Mixtral's releases, from params.json or config.json, in every dialect
// in which they were published (docs/checkpoints.md), and the ModelDescription that they stand for.
// Containers keep them under "params" in addition to the description, for programs that know only those.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "format/model_description.h"

namespace sluice::format {

struct MistralParams {
  std::uint64_t dim = 0;  ///< width of the residual stream
  std::uint64_t n_layers = 0;
  std::uint64_t head_dim = 0;
  std::uint64_t hidden_dim = 0;  ///< inner width of the feed-forward, or of one expert
  std::uint64_t n_heads = 0;
  std::uint64_t n_kv_heads = 0;
  std::uint64_t vocab_size = 0;
  std::uint64_t num_experts = 0;  ///< 0: a dense model, whose params.json has no "moe"
  std::uint64_t num_experts_per_tok = 0;
  double norm_eps = 1e-5;
  double rope_theta = 1e6;
  std::optional<std::uint64_t> sliding_window;  ///< tokens

  bool operator==(const MistralParams&) const = default;
};

/// Reads the text of a params.json or config.json. A missing rope_theta is 1e6 without sliding window and 1e4
/// with one (mistral-inference, first MoE version). Missing keys, wrong types, zero sizes, heads that do not
/// divide, or more experts a token than experts throw Error{malformed} naming `subject` and the key. So do an
/// architecture that is not supported, first of all, and keys that may change the result; the names of other
/// keys that are not known go to `skipped_keys`.
[[nodiscard]] MistralParams parse_params(std::string_view text, std::string_view subject,
                                         std::vector<std::string>* skipped_keys = nullptr);

/// The parameters as JSON under the native keys, and back; other keys are refused.
[[nodiscard]] Json to_json(const MistralParams& params);
[[nodiscard]] MistralParams params_from_json(const Json& json, std::string_view subject);

/// Throws unless the values make sense together. parse_params has called it already.
void validate(const MistralParams& params, std::string_view subject);

[[nodiscard]] ModelDescription describe(const MistralParams& params);
/// The parameters that stand for exactly this description; nothing when there are none.
[[nodiscard]] std::optional<MistralParams> mistral_params(const ModelDescription& description);

}  // namespace sluice::format
