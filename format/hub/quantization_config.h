#pragma once
// Reads what params.json and config.json say about quantized weights. Only FP8 E4M3 and MXFP4, with the
// scales that released_model.cpp finds, and symmetric 4-bit codes as packed_int4.h has them, can be read;
// where the scales are follows from the files, so nothing is taken from these keys. Settings for activations
// and the KV cache describe approximations of other programs and are ignored (docs/checkpoints.md,
// "params.json and config.json").

#include <string_view>

#include "format/json.h"

namespace sluice::format {

/// The value of "quantization" in Mistral's params.json. Error{malformed} naming `subject` and the key for
/// another format of weights than FP8 E4M3.
void check_mistral_quantization(const Json& json, std::string_view subject);

/// The value of "quantization_config" in a config.json. Error{malformed} naming `subject` and the key for
/// another method than FP8, MXFP4 and compressed-tensors, other codes than E4M3 and packed symmetric 4-bit
/// ones, or other blocks of FP8 than 128 x 128.
void check_quantization_config(const Json& json, std::string_view subject);

}  // namespace sluice::format
