#pragma once
// Encodes floats in the types of exported files.

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "convert/export.h"

namespace sluice::convert {

/// Bytes of `count` encoded values; for q8_0 and q4_0 `count` is a multiple of 32.
[[nodiscard]] std::uint64_t encoded_bytes(ExportType type, std::uint64_t count);

/// Rounds to nearest, ties to even. Q8_0 is rounded as ggml's quantize_row_q8_0_ref does: the scale is
/// max |x| / 127 as f16, the codes are x * (1 / the scale before its rounding), halves away from zero. Q4_0
/// likewise as quantize_row_q4_0_ref: the scale is -1/8 of the value of largest magnitude, the first of equal
/// ones, and the codes are the whole part of x * (1 / scale) + 8.5, at most 15.
void encode_values(ExportType type, std::span<const float> values, base::MutableBytes out);

}  // namespace sluice::convert
