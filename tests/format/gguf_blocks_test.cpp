// The quantized blocks of GGUF, compared bit for bit with a slow reference. The reference is written from the
// layouts in ggml-common.h, weight by weight: each weight names the bits of its code and of its scales by
// their positions in the block. It relies on a property of the formats: every product of a scale, a group
// scale and a code fits 24 bits, so it is exact in double and in float, and only the sum with a minimum
// rounds.

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <vector>

#include "base/file.h"
#include "format/gguf/dequantize.h"
#include "format/gguf/gguf_types.h"
#include "format/tensor_source.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using base::ErrorKind;
using format::DType;
using tests::TempDir;

namespace {

using Block = std::vector<std::uint8_t>;

/// `count` bits from bit `at` on, where bit 0 is the lowest one of byte 0.
int bits(const Block& block, std::size_t at, std::size_t count) {
  int value = 0;
  for (std::size_t i = 0; i < count; ++i) value += (block.at((at + i) / 8) >> ((at + i) % 8) & 1) << i;
  return value;
}

/// IEEE 754 binary16 at a byte.
double half(const Block& block, std::size_t byte) {
  const int exponent = bits(block, byte * 8 + 10, 5);
  const int fraction = bits(block, byte * 8, 10);
  const double sign = bits(block, byte * 8 + 15, 1) == 1 ? -1 : 1;
  if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

constexpr std::array<double, 16> kNonLinear{-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

/// Position of the nibble of weight i: the first half of the weights in low nibbles, the second in high ones.
std::size_t nibble(std::size_t first_byte, std::size_t i) {
  return i < 16 ? (first_byte + i) * 8 : (first_byte + i - 16) * 8 + 4;
}

/// Six bits of the packed scales of Q4_K and Q5_K; `minimum` chooses the second half.
int packed_six(const Block& block, std::size_t group, bool minimum) {
  const std::size_t own = 4 + (minimum ? 4 : 0);
  if (group < 4) return bits(block, (own + group) * 8, 6);
  return bits(block, (12 + group - 4) * 8 + (minimum ? 4 : 0), 4) +
         16 * bits(block, (own + group - 4) * 8 + 6, 2);
}

/// A weight as the exact product, and the value that is added to it.
struct Weight {
  double product = 0;
  std::optional<double> addend = {};
};

using Decode = std::function<Weight(const Block&, std::size_t)>;

struct Format {
  DType type;
  std::size_t weights;
  std::size_t bytes;
  std::vector<std::size_t> scales;  ///< the bytes at which f16 scales begin
  Decode weight;
};

std::vector<Format> small_formats() {
  return {
      {DType::q4_0,
       32,
       18,
       {0},
       [](const Block& b, std::size_t i) { return Weight{half(b, 0) * (bits(b, nibble(2, i), 4) - 8)}; }},
      {DType::q4_1,
       32,
       20,
       {0, 2},
       [](const Block& b, std::size_t i) {
         return Weight{half(b, 0) * bits(b, nibble(4, i), 4), half(b, 2)};
       }},
      {DType::q5_0,
       32,
       22,
       {0},
       [](const Block& b, std::size_t i) {
         return Weight{half(b, 0) * (bits(b, nibble(6, i), 4) + 16 * bits(b, 16 + i, 1) - 16)};
       }},
      {DType::q5_1,
       32,
       24,
       {0, 2},
       [](const Block& b, std::size_t i) {
         return Weight{half(b, 0) * (bits(b, nibble(8, i), 4) + 16 * bits(b, 32 + i, 1)), half(b, 2)};
       }},
      {DType::q8_0,
       32,
       34,
       {0},
       [](const Block& b, std::size_t i) {
         const int byte = bits(b, 16 + 8 * i, 8);
         return Weight{half(b, 0) * (byte < 128 ? byte : byte - 256)};
       }},
      {DType::iq4_nl,
       32,
       18,
       {0},
       [](const Block& b, std::size_t i) {
         return Weight{half(b, 0) * kNonLinear[static_cast<std::size_t>(bits(b, nibble(2, i), 4))]};
       }},
      // E2M1: two bits of exponent with bias 1, one of fraction; the exponent 0 has the values 0 and 1/2.
      {DType::mxfp4,
       32,
       17,
       {},
       [](const Block& b, std::size_t i) {
         const int code = bits(b, nibble(1, i), 4);
         const int exponent = code >> 1 & 3;
         const double magnitude =
             exponent == 0 ? (code & 1) * 0.5 : std::ldexp(1 + (code & 1) * 0.5, exponent - 1);
         const double sign = magnitude != 0 && code >= 8 ? -1 : 1;  // ggml has no -0
         return Weight{sign * std::ldexp(magnitude, bits(b, 0, 8) - 127)};
       }},
  };
}

std::vector<Format> large_formats() {
  return {
      {DType::q2_k,
       256,
       84,
       {80, 82},
       [](const Block& b, std::size_t i) {
         const int code = bits(b, (16 + i / 128 * 32 + i % 32) * 8 + i % 128 / 32 * 2, 2);
         return Weight{half(b, 80) * bits(b, i / 16 * 8, 4) * code,
                       -(half(b, 82) * bits(b, i / 16 * 8 + 4, 4))};
       }},
      {DType::q3_k,
       256,
       110,
       {108},
       [](const Block& b, std::size_t i) {
         const std::size_t group = i / 16;
         const int scale = bits(b, (96 + group % 8) * 8 + group / 8 * 4, 4) +
                           16 * bits(b, (104 + group % 4) * 8 + group / 4 * 2, 2) - 32;
         const int code = bits(b, (32 + i / 128 * 32 + i % 32) * 8 + i % 128 / 32 * 2, 2) -
                          (bits(b, i % 32 * 8 + i / 32, 1) == 1 ? 0 : 4);
         return Weight{half(b, 108) * scale * code};
       }},
      {DType::q4_k,
       256,
       144,
       {0, 2},
       [](const Block& b, std::size_t i) {
         const std::size_t group = i / 32;
         const int code = bits(b, (16 + i / 64 * 32 + i % 32) * 8 + group % 2 * 4, 4);
         return Weight{half(b, 0) * packed_six(b, group, false) * code,
                       -(half(b, 2) * packed_six(b, group, true))};
       }},
      {DType::q5_k,
       256,
       176,
       {0, 2},
       [](const Block& b, std::size_t i) {
         const std::size_t group = i / 32;
         const int code = bits(b, (48 + i / 64 * 32 + i % 32) * 8 + group % 2 * 4, 4) +
                          16 * bits(b, (16 + i % 32) * 8 + group, 1);
         return Weight{half(b, 0) * packed_six(b, group, false) * code,
                       -(half(b, 2) * packed_six(b, group, true))};
       }},
      {DType::q6_k,
       256,
       210,
       {208},
       [](const Block& b, std::size_t i) {
         const std::size_t within = i % 128;
         const std::size_t low = (i / 128 * 64 + within % 64) * 8 + within / 64 * 4;
         const int code =
             bits(b, low, 4) + 16 * bits(b, (128 + i / 128 * 32 + i % 32) * 8 + within / 32 * 2, 2) - 32;
         const int scale = bits(b, (192 + i / 16) * 8, 8);
         return Weight{half(b, 208) * (scale < 128 ? scale : scale - 256) * code};
       }},
      {DType::iq4_xs,
       256,
       136,
       {0},
       [](const Block& b, std::size_t i) {
         const std::size_t group = i / 32;
         const int scale = bits(b, 32 + group * 4, 4) + 16 * bits(b, 16 + group * 2, 2) - 32;
         const int code = bits(b, nibble(8 + group * 16, i % 32), 4);
         return Weight{half(b, 0) * scale * kNonLinear[static_cast<std::size_t>(code)]};
       }},
  };
}

std::vector<Format> all_formats() {
  auto formats = small_formats();
  for (Format& format : large_formats()) formats.push_back(std::move(format));
  return formats;
}

/// The bits of a float; one value for all NaNs, whose payload depends on the operands' order.
std::uint32_t bits_of(float value) {
  return std::isnan(value) ? 0x7FC00000 : std::bit_cast<std::uint32_t>(value);
}

void check_block(const Format& format, const Block& block) {
  std::vector<float> values(format.weights);
  format::dequantize(format.type, std::as_bytes(std::span(block)), values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Weight weight = format.weight(block, i);
    const auto product = static_cast<float>(weight.product);
    const float expected = weight.addend ? product + static_cast<float>(*weight.addend) : product;
    if (bits_of(values[i]) == bits_of(expected)) continue;
    CAPTURE(i);
    REQUIRE(bits_of(values[i]) == bits_of(expected));
  }
}

void set_half(Block& block, std::size_t byte, std::uint16_t value) {
  block[byte] = static_cast<std::uint8_t>(value);
  block[byte + 1] = static_cast<std::uint8_t>(value >> 8);
}

}  // namespace

TEST_CASE("blocks of every quantized GGUF type have the values of the slow reference, bit for bit") {
  std::mt19937 random(20);
  for (const Format& format : all_formats()) {
    CAPTURE(format::to_string(format.type));
    CHECK(format::block_weights(format.type) == format.weights);
    CHECK(format::stored_bytes(format.type, format.weights) == format.bytes);
    Block block(format.bytes);
    for (int round = 0; round < 100; ++round) {
      for (auto& byte : block) byte = static_cast<std::uint8_t>(random());
      check_block(format, block);
    }
    // Zeros, subnormal numbers, the largest ones, infinities and NaN, of both signs.
    for (const int scale :
         {0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00}) {
      CAPTURE(scale);
      for (const std::size_t byte : format.scales) set_half(block, byte, static_cast<std::uint16_t>(scale));
      check_block(format, block);
    }
  }
}

TEST_CASE("MXFP4 takes every exponent as ggml does") {
  const Format format = small_formats().back();
  Block block(format.bytes);
  for (std::size_t i = 1; i < block.size(); ++i) block[i] = static_cast<std::uint8_t>(i * 17 - 17);
  for (int exponent = 0; exponent < 256; ++exponent) {
    CAPTURE(exponent);
    block[0] = static_cast<std::uint8_t>(exponent);
    check_block(format, block);
  }
}

TEST_CASE("rows of quantized tensors are read in parts, and NaN in them is named") {
  const TempDir folder(tests::fast_directory());
  std::mt19937 random(7);
  for (const Format& format : all_formats()) {
    CAPTURE(format::to_string(format.type));
    // 24 rows of 8,192 weights have more bytes than are decoded at once.
    format::TensorView view;
    view.name = "blk.0.w";
    view.shape = {24, 8192};
    view.stored_dtype = format.type;
    view.row_stride = 8192;
    view.offset_bytes = 5;
    std::vector<std::byte> content(5 + format::stored_bytes(format.type, 24 * 8192));
    for (auto& byte : content) byte = static_cast<std::byte>(random() & 0x3B);  // finite scales
    std::vector<float> expected(24 * 8192);
    format::dequantize(format.type, base::Bytes(content).subspan(5), expected);
    if (!format.scales.empty()) {
      const std::size_t last = content.size() - format.bytes + format.scales.front();
      content[last] = std::byte{0};
      content[last + 1] = std::byte{0x7E};
    }
    tests::write_plainly(folder / "m", std::string(base::as_text(content)));
    const auto file = base::File::open_read(folder / "m");
    const format::TensorSource source(view, file);
    std::vector<std::byte> rows;
    source.read_rows(1, 22, rows);
    CHECK(std::memcmp(rows.data(), expected.data() + 8192, rows.size()) == 0);
    if (format.scales.empty()) continue;
    source.read_rows(23, 1, rows);
    std::vector<float> floats(8192);
    const std::string place =
        "tensor 'blk.0.w': has NaN at [23, " + std::to_string(8192 - format.weights) + "]";
    CHECK_ERROR(source.to_floats(rows, 23, floats), ErrorKind::malformed, place);
  }
}

TEST_CASE("every number of ggml's types has a name, and each type that is read its dtype") {
  std::size_t read = 0;
  for (std::uint32_t number = 0; number < 42; ++number) {
    const format::GgufType* type = format::find_gguf_type(number);
    REQUIRE(type != nullptr);
    if (!type->dtype) continue;
    ++read;
    CHECK(format::gguf_name(*type->dtype) == type->name);
  }
  CHECK(read == 16);
  CHECK(format::find_gguf_type(42) == nullptr);
  CHECK(format::describe_unread_type(4).starts_with("has the type Q4_2, which ggml itself has removed: "));
  CHECK(format::describe_unread_type(16).starts_with("has the type IQ2_XXS, which is not supported: "));
  CHECK(format::describe_unread_type(99).starts_with("has the type 99, which is not known: "));
}
