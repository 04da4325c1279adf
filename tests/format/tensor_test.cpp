#include "format/tensor.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace sluice::format {
namespace {

TEST_CASE("every element type has a name that reads back, and its size") {
  const struct {
    DType dtype;
    const char* name;
    std::size_t bytes;
  } rows[] = {{DType::f64, "f64", 8},     {DType::f32, "f32", 4}, {DType::f16, "f16", 2},
              {DType::bf16, "bf16", 2},   {DType::i64, "i64", 8}, {DType::i32, "i32", 4},
              {DType::i16, "i16", 2},     {DType::i8, "i8", 1},   {DType::u8, "u8", 1},
              {DType::boolean, "bool", 1}};
  for (const auto& row : rows) {
    CHECK(to_string(row.dtype) == row.name);
    CHECK(parse_dtype(row.name) == row.dtype);
    CHECK(size_bytes(row.dtype) == row.bytes);
  }
  CHECK(parse_dtype("f8") == std::nullopt);
  CHECK(parse_dtype("") == std::nullopt);
}

TEST_CASE("shapes are counted without overflow") {
  CHECK(to_string(Shape{8, 256}) == "[8, 256]");
  CHECK(to_string(Shape{}) == "[]");
  CHECK(element_count({}) == 1);
  CHECK(element_count({8, 256}) == 2048);
  CHECK(element_count({4, 0, ~0ull, ~0ull}) == 0);
  CHECK(element_count({1ull << 62}) == 1ull << 62);
  CHECK(element_count({1ull << 63}) == std::nullopt);
  CHECK(element_count({1ull << 32, 1ull << 31}) == std::nullopt);
  CHECK(element_count({2, ~0ull - 1}) == std::nullopt);
}

TEST_CASE("every bf16 becomes an f32 and comes back") {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(bits));
    CAPTURE(bits);
    if (std::isnan(value)) {
      REQUIRE(std::isnan(bf16_to_f32(f32_to_bf16(value))));
    } else {
      REQUIRE(f32_to_bf16(value) == bits);
    }
  }
}

TEST_CASE("rounding to bf16 is to nearest, ties to even") {
  const auto round = [](std::uint32_t bits) { return f32_to_bf16(std::bit_cast<float>(bits)); };
  CHECK(round(0x3F808000) == 0x3F80);  // tie, even below
  CHECK(round(0x3F818000) == 0x3F82);  // tie, even above
  CHECK(round(0x3F808001) == 0x3F81);
  CHECK(round(0x3F807FFF) == 0x3F80);
  CHECK(round(0x7F7FFFFF) == 0x7F80);  // the largest f32 becomes infinity
  CHECK(round(0xBF808001) == 0xBF81);
  CHECK(round(0x00000001) == 0x0000);
  CHECK(round(0x7F800001) == 0x7FC0);  // NaN with a payload in the lost half
  CHECK(round(0xFFC00000) == 0xFFC0);
}

TEST_CASE("every f16 becomes the f32 of the same value") {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(bits));
    const int exponent = static_cast<int>((bits >> 10) & 31);
    const int fraction = static_cast<int>(bits & 0x3FF);
    CAPTURE(bits);
    REQUIRE(std::signbit(value) == ((bits & 0x8000) != 0));
    if (exponent == 31) {
      REQUIRE((fraction == 0 ? std::isinf(value) : std::isnan(value)));
    } else {
      const int significand = exponent == 0 ? fraction : fraction + 1024;
      REQUIRE(std::fabs(value) == std::ldexp(static_cast<float>(significand), std::max(exponent, 1) - 25));
    }
  }
}

}  // namespace
}  // namespace sluice::format
