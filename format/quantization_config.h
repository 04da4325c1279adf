#pragma once
// Checks what a release's parameters say about quantized weights, and refuses quantizations that Sluice does
// not read. How a tensor is quantized follows from the files themselves, by dtype and scales.

#include <string_view>

#include "format/json.h"

namespace sluice::format {

/// Checks "quantization" of Mistral's params.json: {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}.
/// Throws Error{malformed} naming the key; so does check_quantization_config().
void check_mistral_quantization(const Json& json, std::string_view subject);

/// Checks "quantization_config" of config.json: FP8 by transformers or vLLM ("fp8"), or by
/// compressed-tensors.
void check_quantization_config(const Json& json, std::string_view subject);

}  // namespace sluice::format
