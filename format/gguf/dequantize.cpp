// The block formats of ggml, one function each (layouts: ggml-common.h; values: ggml-quants.c,
// dequantize_row_*). Q4_0 to Q8_0, IQ4_NL and MXFP4 have blocks of 32 weights with one scale, the others
// blocks of 256 weights, whose groups of 16 or 32 have small integer scales of their own. All numbers are
// little-endian.
//
// The order of the float operations is part of the format: scale x group scale is rounded first, then the
// product with the code, then the difference from the minimum. The project compiles without contraction, so
// no compiler turns a product and a difference into one rounding. The loops are plain, so that the compiler
// turns them into vectors (this file is compiled with -O3). Everything runs on the caller's thread.

#include "format/gguf/dequantize.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/invariant.h"

namespace sluice::format {
namespace {

using Byte = std::uint8_t;

float half_at(const Byte* bytes) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return f16_to_f32(bits);
}

/// The 16 values of IQ4_NL and IQ4_XS, which lie closer together around zero (ggml-common.h, kvalues_iq4nl).
constexpr std::array<float, 16> kNonLinear{-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};
/// The values of FP4 E2M1, doubled (OCP Microscaling Formats 1.0, section 5.3.3).
constexpr std::array<float, 16> kFp4Doubled{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Blocks of 32 weights. Their nibbles lie alike everywhere: weight i in the low nibble of byte i, weight
// i + 16 in the high one.

/// f16 scale d, 16 bytes of nibbles; value (nibble - 8) x d.
struct Q4_0 {
  static constexpr std::size_t kWeights = 32, kBytes = 18;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    const Byte* codes = block + 2;
    for (int i = 0; i < 16; ++i) {
      out[i] = static_cast<float>((codes[i] & 15) - 8) * d;
      out[i + 16] = static_cast<float>((codes[i] >> 4) - 8) * d;
    }
  }
};

/// f16 scale d, f16 minimum m, nibbles; value nibble x d + m.
struct Q4_1 {
  static constexpr std::size_t kWeights = 32, kBytes = 20;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    const float m = half_at(block + 2);
    const Byte* codes = block + 4;
    for (int i = 0; i < 16; ++i) {
      out[i] = static_cast<float>(codes[i] & 15) * d + m;
      out[i + 16] = static_cast<float>(codes[i] >> 4) * d + m;
    }
  }
};

/// The 5-bit codes of Q5_0 and Q5_1: u32 whose bit i is bit 4 of code i, then nibbles.
void read_five_bits(const Byte* block, int* codes) {
  std::uint32_t high;
  std::memcpy(&high, block, sizeof(high));
  const Byte* low = block + 4;
  for (int i = 0; i < 16; ++i) {
    codes[i] = (low[i] & 15) | static_cast<int>((high >> i & 1) << 4);
    codes[i + 16] = (low[i] >> 4) | static_cast<int>((high >> (i + 16) & 1) << 4);
  }
}

/// f16 scale d, 5-bit codes; value (code - 16) x d.
struct Q5_0 {
  static constexpr std::size_t kWeights = 32, kBytes = 22;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    int codes[kWeights];
    read_five_bits(block + 2, codes);
    for (std::size_t i = 0; i < kWeights; ++i) out[i] = static_cast<float>(codes[i] - 16) * d;
  }
};

/// f16 scale d, f16 minimum m, 5-bit codes; value code x d + m.
struct Q5_1 {
  static constexpr std::size_t kWeights = 32, kBytes = 24;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    const float m = half_at(block + 2);
    int codes[kWeights];
    read_five_bits(block + 4, codes);
    for (std::size_t i = 0; i < kWeights; ++i) out[i] = static_cast<float>(codes[i]) * d + m;
  }
};

/// f16 scale d, 32 signed bytes; value byte x d.
struct Q8_0 {
  static constexpr std::size_t kWeights = 32, kBytes = 34;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    for (std::size_t i = 0; i < kWeights; ++i)
      out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * d;
  }
};

/// f16 scale d, nibbles that choose one of 16 values.
struct Iq4Nl {
  static constexpr std::size_t kWeights = 32, kBytes = 18;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * kNonLinear[block[2 + i] & 15];
      out[i + 16] = d * kNonLinear[block[2 + i] >> 4];
    }
  }
};

/// An exponent byte e, nibbles of FP4; value FP4 x 2^(e - 127). ggml keeps FP4 doubled and halves the scale.
/// For e = 255, which the specification calls NaN, ggml takes 2^127 like an ordinary exponent.
struct Mxfp4 {
  static constexpr std::size_t kWeights = 32, kBytes = 17;
  static void decode(const Byte* block, float* out) {
    const std::uint32_t e = block[0];
    // 2^(e - 128): below 2^-126 it is a subnormal number.
    const float d = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    for (int i = 0; i < 16; ++i) {
      out[i] = kFp4Doubled[block[1 + i] & 15] * d;
      out[i + 16] = kFp4Doubled[block[1 + i] >> 4] * d;
    }
  }
};

// Blocks of 256 weights.

/// 16 bytes of group scales (low nibble) and minima (high nibble), 64 bytes of 2-bit codes, f16 d, f16 dmin.
/// Groups have 16 weights. Byte 32 n + l has the codes of weights 128 n + l + 32 j, j = 0..3, at bits 2 j.
struct Q2K {
  static constexpr std::size_t kWeights = 256, kBytes = 84;
  static void decode(const Byte* block, float* out) {
    const Byte* scales = block;
    const Byte* codes = block + 16;
    const float d = half_at(block + 80);
    const float minimum = half_at(block + 82);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * static_cast<float>(scales[group] & 15);
      const float offset = minimum * static_cast<float>(scales[group] >> 4);
      const Byte* from = codes + group / 8 * 32 + group % 2 * 16;
      const int shift = group % 8 / 2 * 2;
      float* to = out + group * 16;
      for (int i = 0; i < 16; ++i) to[i] = scale * static_cast<float>(from[i] >> shift & 3) - offset;
    }
  }
};

/// 32 bytes of high bits, 64 bytes of 2-bit codes as in Q2_K, 12 bytes of 16 6-bit scales, f16 d. Bit b of
/// high byte l belongs to weight 32 b + l; when it is not set, 4 is subtracted from the code.
struct Q3K {
  static constexpr std::size_t kWeights = 256, kBytes = 110;
  static void decode(const Byte* block, float* out) {
    const Byte* high = block;
    const Byte* codes = block + 32;
    const Byte* scales = block + 96;
    const float d = half_at(block + 108);
    for (int group = 0; group < 16; ++group) {
      // Low 4 bits of scales 0..7 in the low nibbles of bytes 0..7, those of 8..15 in the high ones; the
      // upper 2 bits of scale g are at bits 2 (g / 4) of byte 8 + g % 4.
      const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
      const int upper = scales[8 + group % 4] >> (group / 4 * 2) & 3;
      const float scale = d * static_cast<float>((low | upper << 4) - 32);
      const int half = group % 2 * 16;
      const Byte* from = codes + group / 8 * 32 + half;
      const int shift = group % 8 / 2 * 2;
      const int bit = group / 2;
      float* to = out + group * 16;
      for (int i = 0; i < 16; ++i) {
        const int code = (from[i] >> shift & 3) + ((high[half + i] >> bit & 1) << 2) - 4;
        to[i] = scale * static_cast<float>(code);
      }
    }
  }
};

/// Scale and minimum of a group of 32, 6 bits each.
struct GroupScale {
  float scale = 0;
  float offset = 0;
};

/// The 12 bytes of scales of Q4_K and Q5_K. Groups 0..3 have their scale in the lower 6 bits of byte g and
/// their minimum in those of byte g + 4; groups 4..7 have 4 bits of each in byte g + 4 and the upper 2 bits
/// in the bits that the first groups leave.
GroupScale group_scale(const Byte* packed, int group, float d, float minimum) {
  int scale = packed[group] & 63;
  int offset = packed[group + 4] & 63;
  if (group >= 4) {
    scale = (packed[group + 4] & 15) | packed[group - 4] >> 6 << 4;
    offset = packed[group + 4] >> 4 | packed[group] >> 6 << 4;
  }
  return {d * static_cast<float>(scale), minimum * static_cast<float>(offset)};
}

/// f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles. Of each 32 bytes the low nibbles are one group
/// and the high nibbles the next.
struct Q4K {
  static constexpr std::size_t kWeights = 256, kBytes = 144;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    const float minimum = half_at(block + 2);
    const Byte* scales = block + 4;
    const Byte* codes = block + 16;
    for (int pair = 0; pair < 4; ++pair, codes += 32, out += 64) {
      const GroupScale low = group_scale(scales, 2 * pair, d, minimum);
      const GroupScale high = group_scale(scales, 2 * pair + 1, d, minimum);
      for (int i = 0; i < 32; ++i) out[i] = low.scale * static_cast<float>(codes[i] & 15) - low.offset;
      for (int i = 0; i < 32; ++i) out[i + 32] = high.scale * static_cast<float>(codes[i] >> 4) - high.offset;
    }
  }
};

/// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit g of byte l belongs to weight 32 g + l.
struct Q5K {
  static constexpr std::size_t kWeights = 256, kBytes = 176;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    const float minimum = half_at(block + 2);
    const Byte* scales = block + 4;
    const Byte* fifth = block + 16;
    const Byte* codes = block + 48;
    for (int pair = 0; pair < 4; ++pair, codes += 32, out += 64) {
      const GroupScale low = group_scale(scales, 2 * pair, d, minimum);
      const GroupScale high = group_scale(scales, 2 * pair + 1, d, minimum);
      for (int i = 0; i < 32; ++i) {
        const int code = (codes[i] & 15) | (fifth[i] >> (2 * pair) & 1) << 4;
        out[i] = low.scale * static_cast<float>(code) - low.offset;
      }
      for (int i = 0; i < 32; ++i) {
        const int code = codes[i] >> 4 | (fifth[i] >> (2 * pair + 1) & 1) << 4;
        out[i + 32] = high.scale * static_cast<float>(code) - high.offset;
      }
    }
  }
};

/// 128 bytes of low nibbles, 64 bytes of upper 2 bits, 16 signed bytes of scales of groups of 16, f16 d.
/// Each half of 128 weights has 64 bytes of nibbles and 32 of upper bits: weights l, l + 32, l + 64, l + 96
/// have their nibbles in bytes l (low), l + 32 (low), l (high), l + 32 (high), their upper bits in byte l.
struct Q6K {
  static constexpr std::size_t kWeights = 256, kBytes = 210;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block + 208);
    for (int part = 0; part < 8; ++part) {  // of 32 weights, two groups
      const int quarter = part % 4;
      const Byte* low = block + part / 4 * 64 + quarter % 2 * 32;
      const Byte* upper = block + 128 + part / 4 * 32;
      const int low_shift = quarter / 2 * 4;
      const int upper_shift = quarter * 2;
      for (int group = 0; group < 2; ++group) {
        const float scale = d * static_cast<float>(static_cast<std::int8_t>(block[192 + part * 2 + group]));
        const Byte* from = low + group * 16;
        const Byte* from_upper = upper + group * 16;
        float* to = out + part * 32 + group * 16;
        for (int i = 0; i < 16; ++i) {
          const int code = ((from[i] >> low_shift & 15) | (from_upper[i] >> upper_shift & 3) << 4) - 32;
          to[i] = scale * static_cast<float>(code);
        }
      }
    }
  }
};

/// f16 d, u16 of the upper 2 bits of 8 scales, 4 bytes of their lower 4 bits, 128 bytes of nibbles as in
/// IQ4_NL, 16 bytes for each group of 32.
struct Iq4Xs {
  static constexpr std::size_t kWeights = 256, kBytes = 136;
  static void decode(const Byte* block, float* out) {
    const float d = half_at(block);
    const int upper = block[2] | block[3] << 8;
    const Byte* codes = block + 8;
    for (int group = 0; group < 8; ++group, codes += 16, out += 32) {
      const int low = block[4 + group / 2] >> (group % 2 * 4) & 15;
      const float scale = d * static_cast<float>((low | (upper >> (2 * group) & 3) << 4) - 32);
      for (int i = 0; i < 16; ++i) {
        out[i] = scale * kNonLinear[codes[i] & 15];
        out[i + 16] = scale * kNonLinear[codes[i] >> 4];
      }
    }
  }
};

template <typename Format>
void decode_all(base::Bytes blocks, std::span<float> out) {
  INVARIANT(blocks.size() % Format::kBytes == 0);
  INVARIANT(blocks.size() / Format::kBytes * Format::kWeights == out.size());
  const auto* block = reinterpret_cast<const Byte*>(blocks.data());
  for (std::size_t at = 0; at < out.size(); at += Format::kWeights, block += Format::kBytes)
    Format::decode(block, out.data() + at);
}

}  // namespace

void dequantize(DType type, base::Bytes blocks, std::span<float> out) {
  switch (type) {
    case DType::q4_0: return decode_all<Q4_0>(blocks, out);
    case DType::q4_1: return decode_all<Q4_1>(blocks, out);
    case DType::q5_0: return decode_all<Q5_0>(blocks, out);
    case DType::q5_1: return decode_all<Q5_1>(blocks, out);
    case DType::q8_0: return decode_all<Q8_0>(blocks, out);
    case DType::q2_k: return decode_all<Q2K>(blocks, out);
    case DType::q3_k: return decode_all<Q3K>(blocks, out);
    case DType::q4_k: return decode_all<Q4K>(blocks, out);
    case DType::q5_k: return decode_all<Q5K>(blocks, out);
    case DType::q6_k: return decode_all<Q6K>(blocks, out);
    case DType::iq4_nl: return decode_all<Iq4Nl>(blocks, out);
    case DType::iq4_xs: return decode_all<Iq4Xs>(blocks, out);
    case DType::mxfp4: return decode_all<Mxfp4>(blocks, out);
    default: INVARIANT(!"a type without blocks");
  }
}

}  // namespace sluice::format
