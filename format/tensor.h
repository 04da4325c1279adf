#pragma once
// What a tensor is before anything is done with it: element type and shape.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::format {

/// Element types of released checkpoints.
enum class DType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

[[nodiscard]] std::size_t size_bytes(DType dtype);
/// "bf16", "f32", ...
[[nodiscard]] std::string_view to_string(DType dtype);
[[nodiscard]] std::optional<DType> parse_dtype(std::string_view text);

/// Extents, outermost first. Row-major: the last axis is contiguous.
using Shape = std::vector<std::uint64_t>;

/// "[8, 256]"
[[nodiscard]] std::string to_string(const Shape& shape);

/// Product of the extents; nothing when it does not fit 63 bits.
[[nodiscard]] std::optional<std::uint64_t> element_count(const Shape& shape);

// bf16 is the upper half of an f32.
[[nodiscard]] float bf16_to_f32(std::uint16_t bits);
/// Rounds to nearest, ties to even; NaN stays NaN.
[[nodiscard]] std::uint16_t f32_to_bf16(float value);
/// IEEE 754 binary16 to binary32, exact.
[[nodiscard]] float f16_to_f32(std::uint16_t bits);

}  // namespace sluice::format
