#pragma once
// Element types and shapes of tensors, and conversions between small float types and f32.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::format {

/// Element types of released checkpoints. From q8_0 on they are GGUF's quantized types, whose elements share
/// blocks (gguf/dequantize.h).
enum class DType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  f8_e4m3,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
};

/// Bytes of one element. Not for types whose elements share blocks.
[[nodiscard]] std::size_t size_bytes(DType dtype);
/// Number of elements that are stored together: 32 or 256 for GGUF's quantized types, else 1.
[[nodiscard]] std::size_t block_weights(DType dtype);
/// Bytes of `count` elements; `count` is a multiple of block_weights().
[[nodiscard]] std::uint64_t stored_bytes(DType dtype, std::uint64_t count);
/// "bf16", "f32", ...
[[nodiscard]] std::string_view to_string(DType dtype);
[[nodiscard]] std::optional<DType> parse_dtype(std::string_view text);

/// Extents, outermost first. Row-major: the last axis is contiguous.
using Shape = std::vector<std::uint64_t>;

/// "[8, 256]"
[[nodiscard]] std::string to_string(const Shape& shape);

/// Product of the extents; nothing when it does not fit 63 bits.
[[nodiscard]] std::optional<std::uint64_t> element_count(const Shape& shape);

/// bf16 is the upper half of an f32.
[[nodiscard]] inline float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
/// Rounds to nearest, ties to even; NaN stays NaN.
[[nodiscard]] inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  // The quiet bit keeps a NaN whose payload lies only in the lower half from becoming infinity.
  const std::uint32_t quiet = (bits >> 16) | 0x40;
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return static_cast<std::uint16_t>(nan ? quiet : rounded);
}
/// IEEE 754 binary16 to binary32, exact.
[[nodiscard]] float f16_to_f32(std::uint16_t bits);
/// Rounds to nearest, ties to even. Values that are too large become infinity, NaN stays NaN.
[[nodiscard]] std::uint16_t f32_to_f16(float value);
/// FP8 E4M3 as in checkpoints (arXiv 2209.05433): bias 7, no infinity, NaN only when all bits except the sign
/// are set. Exact.
[[nodiscard]] float f8_e4m3_to_f32(std::uint8_t bits);

}  // namespace sluice::format
