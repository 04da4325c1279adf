#pragma once
// Floats in the types in which exports hold them.

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "convert/export.h"

namespace sluice::convert {

/// Bytes of `count` values; of q8_0 a multiple of 32.
[[nodiscard]] std::uint64_t encoded_bytes(ExportType type, std::uint64_t count);

/// Rounds to nearest, ties to even; Q8_0 as ggml's quantize_row_q8_0_ref does: scale max |x| / 127 as f16,
/// codes x * (1 / scale before its rounding), halves away from zero.
void encode_values(ExportType type, std::span<const float> values, base::MutableBytes out);

}  // namespace sluice::convert
