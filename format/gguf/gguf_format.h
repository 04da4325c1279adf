#pragma once
// GGUF, the file format of llama.cpp: what reader and writer share. All numbers are little-endian.
// Source: ggml's docs/gguf.md and gguf.h.
//
//   file    "GGUF", u32 version, u64 tensors, u64 pairs; pairs; tensor infos; zeros up to the alignment; data
//   string  u64 length, bytes (UTF-8, no end mark)
//   pair    string key, u32 type, value; an array is u32 element type, u64 count, elements
//   tensor  string name, u32 axes, u64 extents (innermost first), u32 type, u64 offset from the data's start
//
// Every tensor begins on a multiple of `general.alignment` (32 when there is no such key). Version 3 has the
// bytes of version 2; it only allowed big-endian files, which Sluice does not read.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice::format {

constexpr std::string_view kGgufMagic = "GGUF";
constexpr std::uint32_t kGgufVersion = 3;
constexpr std::uint64_t kGgufAlignmentBytes = 32;

enum class GgufValueType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

/// Arrays of more elements than this are passed over. A vocabulary has up to about 262,000 tokens and 515,000
/// merges.
constexpr std::uint64_t kGgufElementsMax = 1u << 20;

/// Stands for an array that is too long to be kept.
struct GgufLongArray {
  std::uint64_t count = 0;
};

/// The value of a key as the reader keeps it. Integers of all widths become 64 bits wide; arrays of arrays
/// are refused, as no model has them.
using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                 std::vector<double>, std::vector<std::string>, GgufLongArray>;
using GgufPairs = std::map<std::string, GgufValue, std::less<>>;

/// The types that Sluice writes, with their numbers in ggml's enum ggml_type. It reads more: gguf_types.h.
enum class GgufTensorType : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, bf16 = 30, mxfp4 = 39 };

// Blocks of 32 weights: an f16 scale d, then the codes (ggml-common.h, block_q8_0 and block_q4_0).
//   q8_0  weight i = code i (s8) * d
//   q4_0  weight i = (low nibble of byte i - 8) * d, weight i + 16 = (high nibble of byte i - 8) * d
constexpr std::uint64_t kGgufBlockWeights = 32;
constexpr std::uint64_t kQ8BlockBytes = 34;
constexpr std::uint64_t kQ4BlockBytes = 18;
constexpr std::uint64_t kMxfp4BlockBytes = 17;

}  // namespace sluice::format
