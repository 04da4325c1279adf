#include "format/tensor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::format {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t block_weights;
  std::size_t block_bytes;
};

constexpr std::array<DTypeRow, 24> kDTypes{{
    {DType::f64, "f64", 1, 8},
    {DType::f32, "f32", 1, 4},
    {DType::f16, "f16", 1, 2},
    {DType::bf16, "bf16", 1, 2},
    {DType::i64, "i64", 1, 8},
    {DType::i32, "i32", 1, 4},
    {DType::i16, "i16", 1, 2},
    {DType::i8, "i8", 1, 1},
    {DType::u8, "u8", 1, 1},
    {DType::boolean, "bool", 1, 1},
    {DType::f8_e4m3, "f8_e4m3", 1, 1},
    // ggml-common.h, block_q8_0 and so on
    {DType::q8_0, "q8_0", 32, 34},
    {DType::q4_0, "q4_0", 32, 18},
    {DType::q4_1, "q4_1", 32, 20},
    {DType::q5_0, "q5_0", 32, 22},
    {DType::q5_1, "q5_1", 32, 24},
    {DType::q2_k, "q2_k", 256, 84},
    {DType::q3_k, "q3_k", 256, 110},
    {DType::q4_k, "q4_k", 256, 144},
    {DType::q5_k, "q5_k", 256, 176},
    {DType::q6_k, "q6_k", 256, 210},
    {DType::iq4_nl, "iq4_nl", 32, 18},
    {DType::iq4_xs, "iq4_xs", 256, 136},
    {DType::mxfp4, "mxfp4", 32, 17},
}};

const DTypeRow& row_of(DType dtype) {
  const auto row = std::ranges::find(kDTypes, dtype, &DTypeRow::dtype);
  INVARIANT(row != kDTypes.end());
  return *row;
}

}  // namespace

std::size_t size_bytes(DType dtype) {
  INVARIANT(block_weights(dtype) == 1);
  return row_of(dtype).block_bytes;
}

std::size_t block_weights(DType dtype) { return row_of(dtype).block_weights; }

// `count` is a multiple of the block's weights; readers refuse other shapes.
std::uint64_t stored_bytes(DType dtype, std::uint64_t count) {
  return count / block_weights(dtype) * row_of(dtype).block_bytes;
}

std::string_view to_string(DType dtype) { return row_of(dtype).name; }

std::optional<DType> parse_dtype(std::string_view text) {
  const auto row = std::ranges::find(kDTypes, text, &DTypeRow::name);
  if (row == kDTypes.end()) return std::nullopt;
  return row->dtype;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (const std::uint64_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(extent);
  }
  return text + "]";
}

std::optional<std::uint64_t> element_count(const Shape& shape) {
  // This test comes first, because an overflow of the other axes does not matter then.
  if (std::ranges::find(shape, 0u) != shape.end()) return 0;
  std::uint64_t count = 1;
  for (const std::uint64_t extent : shape) {
    const auto product = base::checked_mul(count, extent);
    if (!product || *product > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return std::nullopt;
    }
    count = *product;
  }
  return count;
}

// IEEE 754 binary16: 5 bits of exponent with bias 15 (127 - 15 = 112), 10 of fraction. Every value has an
// exact f32.
float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31;
  const std::uint32_t fraction = bits & 0x3FF;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000 | (fraction << 13));
  if (exponent == 0) {
    // Zero or subnormal: fraction x 2^-24, exact in f32.
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign == 0 ? magnitude : -magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

// FP8 E4M3 (arXiv 2209.05433): 4 bits of exponent with bias 7 (127 - 7 = 120), 3 of fraction. The highest
// exponent is an ordinary one, apart from NaN.
float f8_e4m3_to_f32(std::uint8_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x80) << 24;
  const std::uint32_t exponent = (bits >> 3) & 15;
  const std::uint32_t fraction = bits & 7;
  if (exponent == 15 && fraction == 7) return std::bit_cast<float>(sign | 0x7FC00000);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-9F;
    return sign == 0 ? magnitude : -magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (fraction << 20));
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<std::uint16_t>(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return static_cast<std::uint16_t>(sign | 0x7C00);  // 65520 and above
  if (magnitude < 0x38800000) {
    // Below 2^-14 the result is a multiple of 2^-24. Adding 1/2 rounds to it, because floats in [1/2, 1) have
    // steps of 2^-24.
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(sum) - 0x3F000000));
  }
  // Rounds 13 bits away to nearest, ties to even: the last kept bit decides a tie. A carry may run into the
  // exponent, which gives the next power of two.
  const std::uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return static_cast<std::uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // namespace sluice::format
