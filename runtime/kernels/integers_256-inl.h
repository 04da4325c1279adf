// Unpacking, and products of a few rows, for the integer kernels on 256-bit registers. avx2.cpp and
// avxvnni.cpp include this once, after float_kernels-inl.h and prefetch.h, inside their unnamed namespaces.
//
// vpmaddubsw multiplies u8 x s8 and adds pairs in saturating 16 bits. Nothing here can saturate: in q8 |w| <=
// 128 as u8 times |x| <= 127 makes pairs of at most 2 x 128 x 127 = 32512 < 32768; in q4 and q6 codes are
// smaller. Every sum of pairs has its bound next to it: whoever adds a term must check it again.
//
// A register holds eight outputs of one quad: 32-bit lane i has the four inputs of output i, which the
// instructions add up within the lane. broadcast_quad() gives all lanes the same four activations.

inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline __m256i broadcast_quad(const std::int8_t* p) {
  std::int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

// Sub-scales of one group for 64 outputs, each twice side by side as s16, eight outputs a register: vpmaddwd
// multiplies the two 16-bit sums of an output by them and adds the two products.
struct SubScales {
  __m256i part[8];
};

// The sub-scales of 32 outputs: half 0 has low nibbles of the magnitudes, half 1 high ones (format/tile.h).
inline void load_half_sub_scales(const PanelView& panel, std::size_t group, std::size_t half, __m256i* part) {
  const __m256i bytes = load256(panel.magnitudes + group * kQ4MagnitudeBytes);
  const __m256i nibbles = half == 0 ? bytes : _mm256_srli_epi16(bytes, 4);
  const __m256i magnitudes =
      _mm256_add_epi8(_mm256_and_si256(nibbles, _mm256_set1_epi8(15)), _mm256_set1_epi8(1));
  // In byte n of 32: the byte with its sign bit, and that bit.
  const __m256i byte_of_lane = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                                2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit_of_lane = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  // Lane i of eight: two copies of byte i, each sign-extended below.
  const __m256i twice = _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,  //
                                         4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
  std::int32_t sign_bytes;
  __builtin_memcpy(&sign_bytes, panel.signs + group * kQ4SignBytes + half * 4, sizeof(sign_bytes));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(sign_bytes), byte_of_lane);
  const __m256i negative = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit_of_lane), bit_of_lane);
  // x xor -1 minus -1 is -x.
  const __m256i scale = _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative);
  alignas(32) std::int8_t byte[32];
  store256(byte, scale);
  for (std::size_t i = 0; i < 4; ++i) {
    std::int64_t eight;
    __builtin_memcpy(&eight, byte + i * 8, sizeof(eight));
    const __m256i repeated = _mm256_shuffle_epi8(_mm256_set1_epi64x(eight), twice);
    part[i] = _mm256_srai_epi16(repeated, 8);
  }
}

inline SubScales load_sub_scales(const PanelView& panel, std::size_t group) {
  SubScales scales;
  load_half_sub_scales(panel, group, 0, scales.part);
  load_half_sub_scales(panel, group, 1, scales.part + 4);
  return scales;
}

// Nibbles of two neighbouring quads as bytes, 0 to 15.
struct Nibbles {
  __m256i even;
  __m256i odd;
};

inline Nibbles load_nibbles(const std::byte* packed) {
  const __m256i both = load256(packed);
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(both, mask), _mm256_and_si256(_mm256_srli_epi16(both, 4), mask)};
}

// Two quads of inputs of eight outputs of q6, the codes + 32 as bytes.
struct SixBits {
  __m256i even;
  __m256i odd;
};

inline SixBits load_six_bits(const std::byte* pair, std::size_t i) {
  const Nibbles low = load_nibbles(pair + i * 32);
  const __m256i highs = load256(pair + kQ6LowBytes + i / 2 * 32);
  const __m256i mask = _mm256_set1_epi8(0x30);
  // Masked shifts put the two bits of each quad at bits 4 and 5, above the low four.
  const bool second = i % 2 != 0;  // eight of the sixteen rows that share these 32 bytes
  const __m256i even = second ? highs : _mm256_slli_epi16(highs, 4);
  const __m256i odd = second ? _mm256_srli_epi16(highs, 2) : _mm256_slli_epi16(highs, 2);
  return {_mm256_or_si256(low.even, _mm256_and_si256(even, mask)),
          _mm256_or_si256(low.odd, _mm256_and_si256(odd, mask))};
}

// Sub-scales of one group of q6 for eight outputs, each twice side by side as s16.
inline __m256i load_q6_sub_scales(const PanelView& panel, std::size_t group, std::size_t i) {
  std::int64_t eight;
  __builtin_memcpy(&eight, panel.magnitudes + group * kQ6MagnitudeBytes + i % 2 * 8, sizeof(eight));
  const __m256i packed = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(eight));
  const __m256i field = _mm256_srlv_epi32(packed, _mm256_set1_epi32(static_cast<int>(i / 2 * 2)));
  const __m256i scales =
      _mm256_add_epi32(_mm256_and_si256(field, _mm256_set1_epi32(3)), _mm256_set1_epi32(1));
  return _mm256_or_si256(scales, _mm256_slli_epi32(scales, 16));
}

// totals[i] = fma(float(sum), scale, totals[i]), as `accumulate` does.
inline void accumulate_part(__m256i sum, float scale, float* totals) {
  const __m256 s = _mm256_set1_ps(scale);
  _mm256_storeu_ps(totals, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), s, _mm256_loadu_ps(totals)));
}

// This takes a sum that is in the low bits of a float, which started with `zeros` (mx4_products-inl.h).
inline void accumulate_part(__m256i sum, const float* zeros, float scale, float* totals) {
  const __m256 exact = _mm256_sub_ps(_mm256_castsi256_ps(sum), _mm256_loadu_ps(zeros));
  _mm256_storeu_ps(totals, _mm256_fmadd_ps(exact, _mm256_set1_ps(scale), _mm256_loadu_ps(totals)));
}

// Clears register by register: GCC compiles the initialization of an array to `rep stos`, which takes half of
// the time of a chunk of two groups.
inline void clear(__m256i (&total)[8]) {
  for (auto& t : total) {
    t = _mm256_setzero_si256();
    pin_to_register(t);
  }
}

inline void clear(Totals& totals) {
  for (auto& sixteen : totals.part)
    for (auto& part : sixteen.part) {
      FloatPart zeros{};
      pin_to_register(zeros);
      part = zeros;
    }
}

inline Sums to_sums(const __m256i (&total)[8]) {
  Sums sums;
  for (std::size_t i = 0; i < 8; ++i) sums.part[i] = reinterpret_cast<IntPart>(total[i]);
  return sums;
}

// u8 x s8 needs one factor without sign, so the weight's sign moves to the activation:
// |w| x sign(x, w) = w x. A weight of -128 has the magnitude 128, which fits into u8.
inline Sums q8_sums(const std::int8_t* weights, std::size_t groups, const std::int8_t* codes, std::int32_t) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i total[8];
  clear(total);
  for (std::size_t quad = 0; quad < groups * 4; ++quad) {
    prefetch<kQuadBytes>(weights + quad * kQuadBytes);
    const __m256i x = broadcast_quad(codes + quad * 4);
    for (std::size_t i = 0; i < 8; ++i) {
      const __m256i w = load256(weights + quad * kQuadBytes + i * 32);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs, ones));
    }
  }
  return to_sums(total);
}

// Codes are stored as code + 8, which is u8 already. 8 x the group's sum of activations is subtracted again:
// half of it from each of the two 16-bit sums that a multiplication with the sub-scale adds up.
inline Sums q4_sums(const PanelView& panel, std::size_t first_group, std::size_t groups,
                    const std::int8_t* codes, const std::int32_t* group_sums, std::size_t group_stride) {
  const std::byte* packed = panel.codes + first_group * kQ4GroupBytes;
  __m256i total[8];
  clear(total);
  for (std::size_t group = 0; group < groups; ++group) {
    prefetch<kQ4GroupBytes>(packed + group * kQ4GroupBytes);
    const SubScales scales = load_sub_scales(panel, first_group + group);
    const __m256i start = _mm256_set1_epi16(static_cast<short>(-4 * group_sums[group * group_stride]));
    const std::int8_t* x = codes + group * 16;
    const __m256i quads[4] = {broadcast_quad(x), broadcast_quad(x + 4), broadcast_quad(x + 8),
                              broadcast_quad(x + 12)};
    for (std::size_t i = 0; i < 8; ++i) {
      const Nibbles first = load_nibbles(packed + group * kQ4GroupBytes + i * 32);
      const Nibbles second = load_nibbles(packed + group * kQ4GroupBytes + kQ4PairBytes + i * 32);
      // Four quads of at most 2 x 15 x 127, and 4 x 16 x 127: 23368, within 16 bits.
      __m256i pairs = _mm256_add_epi16(start, _mm256_maddubs_epi16(first.even, quads[0]));
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(first.odd, quads[1]));
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second.even, quads[2]));
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second.odd, quads[3]));
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs, scales.part[i]));
    }
  }
  return to_sums(total);
}

// q4_sums of two to four rows. Unpacking nibbles and sub-scales takes as long as the products of one row, so
// all rows share it. A few eighths of the outputs at a time, so that the sums of all rows stay in registers;
// sub-scales are unpacked for all of them first.
template <std::size_t kRows>
inline void q4_rows_sums(const PanelView& panel, std::size_t first_group, std::size_t groups,
                         const std::int8_t* codes, std::size_t codes_stride, const std::int32_t* group_sums,
                         std::size_t group_stride, Sums* sums) {
  static_assert(kRows >= 2 && kRows <= 4);
  constexpr std::size_t kEighths = kRows == 2 ? 4 : 2;  // eighths; 8 sums, or 6 to 8
  const std::byte* packed = panel.codes + first_group * kQ4GroupBytes;
  SubScales scales[kChunkColsMax / 16];
  for (std::size_t group = 0; group < groups; ++group)
    scales[group] = load_sub_scales(panel, first_group + group);
  for (std::size_t part = 0; part < 8; part += kEighths) {
    __m256i total[kRows][kEighths];
    for (auto& row : total)
      for (auto& t : row) t = _mm256_setzero_si256(), pin_to_register(t);
    for (std::size_t group = 0; group < groups; ++group) {
      if (part == 0) prefetch<kQ4GroupBytes>(packed + group * kQ4GroupBytes);
      const std::int8_t* x = codes + group * 16;
      const std::byte* bytes = packed + group * kQ4GroupBytes + part * 32;
      for (std::size_t i = 0; i < kEighths; ++i) {
        const Nibbles first = load_nibbles(bytes + i * 32);
        const Nibbles second = load_nibbles(bytes + kQ4PairBytes + i * 32);
        for (std::size_t r = 0; r < kRows; ++r) {
          const std::int8_t* row = x + r * codes_stride;
          const auto bias = static_cast<short>(-4 * group_sums[group * group_stride + r]);
          __m256i pairs = _mm256_add_epi16(_mm256_set1_epi16(bias),
                                           _mm256_maddubs_epi16(first.even, broadcast_quad(row)));
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(first.odd, broadcast_quad(row + 4)));
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second.even, broadcast_quad(row + 8)));
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second.odd, broadcast_quad(row + 12)));
          total[r][i] = _mm256_add_epi32(total[r][i], _mm256_madd_epi16(pairs, scales[group].part[part + i]));
          pin_to_register(total[r][i]);
        }
      }
    }
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t i = 0; i < kEighths; ++i)
        sums[r].part[part + i] = reinterpret_cast<IntPart>(total[r][i]);
  }
}

// Like q4_sums, but 32 x the group's sum is subtracted, 16 x from each of the two 16-bit sums. The products
// of all four quads would not fit into 16 bits; those of two quads are at most 4 x 63 x 127 = 32004.
inline Sums q6_sums(const PanelView& panel, std::size_t first_group, std::size_t groups,
                    const std::int8_t* codes, const std::int32_t* group_sums, std::size_t group_stride) {
  const std::byte* packed = panel.codes + first_group * kQ6GroupBytes;
  __m256i total[8];
  clear(total);
  for (std::size_t group = 0; group < groups; ++group) {
    prefetch<kQ6GroupBytes>(packed + group * kQ6GroupBytes);
    const __m256i bias = _mm256_set1_epi16(static_cast<short>(-16 * group_sums[group * group_stride]));
    const std::int8_t* x = codes + group * 16;
    const __m256i quads[4] = {broadcast_quad(x), broadcast_quad(x + 4), broadcast_quad(x + 8),
                              broadcast_quad(x + 12)};
    for (std::size_t i = 0; i < 8; ++i) {
      const SixBits first = load_six_bits(packed + group * kQ6GroupBytes, i);
      const SixBits second = load_six_bits(packed + group * kQ6GroupBytes + kQ6PairBytes, i);
      const __m256i scales = load_q6_sub_scales(panel, first_group + group, i);
      const __m256i of_first = _mm256_add_epi16(_mm256_maddubs_epi16(first.even, quads[0]),
                                                _mm256_maddubs_epi16(first.odd, quads[1]));
      const __m256i of_second = _mm256_add_epi16(_mm256_maddubs_epi16(second.even, quads[2]),
                                                 _mm256_maddubs_epi16(second.odd, quads[3]));
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(bias, scales));
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(of_first, scales));
      total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(of_second, scales));
    }
  }
  return to_sums(total);
}

// Unpacks groups of q6 to one byte a weight in the order of a q8 tile: sub-scale x code + `offset`. The
// product is in [-128, 124], so bytes suffice, and additions may wrap around on the way.
inline void unpack_q6(const PanelView& panel, std::size_t first_group, std::size_t groups, char offset,
                      void* out) {
  for (std::size_t group = 0; group < groups; ++group) {
    const std::byte* packed = panel.codes + (first_group + group) * kQ6GroupBytes;
    for (std::size_t i = 0; i < 8; ++i) {
      // Codes + 32 times the sub-scale are 252 at most, so one 16-bit product has two of them.
      const __m256i scales = load_q6_sub_scales(panel, first_group + group, i);
      const __m256i bytes = _mm256_or_si256(scales, _mm256_slli_epi16(scales, 8));
      // The code is stored with 32 added, so 32 x sub-scale comes off again; `end` does that and adds the
      // offset at once.
      const __m256i end = _mm256_sub_epi8(_mm256_set1_epi8(offset), _mm256_slli_epi16(bytes, 5));
      for (std::size_t pair = 0; pair < 2; ++pair) {
        const SixBits code = load_six_bits(packed + pair * kQ6PairBytes, i);
        auto* to = static_cast<std::byte*>(out) + group * kQ8GroupBytes + pair * 2 * kQuadBytes + i * 32;
        store256(to, _mm256_add_epi8(_mm256_mullo_epi16(code.even, scales), end));
        store256(to + kQuadBytes, _mm256_add_epi8(_mm256_mullo_epi16(code.odd, scales), end));
      }
    }
  }
}

// Nibbles to sub-scale x (nibble - 8) + `offset`, a byte each, for eight outputs of four inputs. Sub-scales
// are s16, each twice side by side. A nibble times a magnitude is 240 at most, so one 16-bit product has two
// of them, without a carry. With s = all bits set where the sub-scale is negative, (a xor s) - s is -a there;
// "- s" is part of offset_.
class NibbleScaling {
 public:
  NibbleScaling(__m256i sub_scales, char offset)
      : magnitudes_(_mm256_abs_epi16(sub_scales)), negative_(_mm256_srai_epi16(sub_scales, 15)) {
    const __m256i whole = _mm256_sub_epi16(_mm256_set1_epi16(offset), _mm256_slli_epi16(sub_scales, 3));
    const __m256i low = _mm256_and_si256(_mm256_sub_epi16(whole, negative_), _mm256_set1_epi16(255));
    offset_ = _mm256_or_si256(low, _mm256_slli_epi16(low, 8));
  }

  [[nodiscard]] __m256i apply(__m256i nibbles) const {
    return _mm256_add_epi8(_mm256_xor_si256(_mm256_mullo_epi16(nibbles, magnitudes_), negative_), offset_);
  }

 private:
  __m256i magnitudes_;
  __m256i negative_;
  __m256i offset_;
};

// Unpacks groups of q4 to one byte a weight in the order of a q8 tile: sub-scale x code + `offset`. The
// product is in [-128, 127]: the format excludes the pair (-8, -16).
inline void unpack_q4(const PanelView& panel, std::size_t first_group, std::size_t groups, char offset,
                      void* out) {
  for (std::size_t group = 0; group < groups; ++group) {
    const SubScales scales = load_sub_scales(panel, first_group + group);
    const std::byte* packed = panel.codes + (first_group + group) * kQ4GroupBytes;
    for (std::size_t i = 0; i < 8; ++i) {
      const NibbleScaling scaling(scales.part[i], offset);
      for (std::size_t half = 0; half < 2; ++half) {
        const Nibbles nibbles = load_nibbles(packed + half * kQ4PairBytes + i * 32);
        auto* to = static_cast<std::byte*>(out) + group * kQ8GroupBytes + half * 2 * kQuadBytes + i * 32;
        store256(to, scaling.apply(nibbles.even));
        store256(to + kQuadBytes, scaling.apply(nibbles.odd));
      }
    }
  }
}

void unpack_q6_to_s8(const PanelView& panel, std::size_t first_group, std::size_t groups, std::int8_t* out) {
  unpack_q6(panel, first_group, groups, 0, out);
}

void unpack_q4_to_s8(const PanelView& panel, std::size_t first_group, std::size_t groups, std::int8_t* out) {
  unpack_q4(panel, first_group, groups, 0, out);
}
