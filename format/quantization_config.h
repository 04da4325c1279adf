#pragma once
// What a release's parameters say of quantized weights. How each tensor is quantized the files themselves
// tell, by dtype and scales; here is refused what Sluice does not read.

#include <string_view>

#include "format/json.h"

namespace sluice::format {

/// "quantization" of Mistral's params.json: {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}.
void check_mistral_quantization(const Json& json, std::string_view subject);

/// "quantization_config" of config.json: FP8 by transformers or vLLM ("fp8"), or by compressed-tensors.
void check_quantization_config(const Json& json, std::string_view subject);

}  // namespace sluice::format
