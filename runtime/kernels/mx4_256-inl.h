// Products of a few rows with mx4 weights on 256-bit registers, and what folding needs, for
// mx4_products-inl.h. avx2.cpp and avxvnni.cpp include this once, after integers_256-inl.h.

// Codes of mx4 as u8, twice their values with 12 added, or as s8 without (kernels.h).
inline __m256i doubled_codes(char added) {
  const __m128i twice = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  return _mm256_broadcastsi128_si256(_mm_add_epi8(twice, _mm_set1_epi8(added)));
}

inline Nibbles load_mx4(const std::byte* packed, __m256i table) {
  const Nibbles code = load_nibbles(packed);
  return {_mm256_shuffle_epi8(table, code.even), _mm256_shuffle_epi8(table, code.odd)};
}

// Eight bytes, one a lane.
inline __m256i widen_bytes(const void* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}

// 2^(exponent - 127). The one of 0 is not a normal float, and its bits are not the exponent's alone.
inline __m256 powers_of_two(__m256i exponents) {
  return _mm256_castsi256_ps(
      _mm256_max_epi32(_mm256_slli_epi32(exponents, 23), _mm256_set1_epi32(0x00400000)));
}

// The starting values of sums in the low bits of floats (mx4_products-inl.h).
inline __m256i float_zeros(__m256i exponents) {
  return _mm256_add_epi32(_mm256_slli_epi32(exponents, 23), _mm256_set1_epi32(kRoundMagicBits - 0x3F800000));
}

// The sum of one group, whose codes have 12 added: 12 x the sum of the group's activations is taken off.
inline __m256i mx4_group_sum(const Nibbles& first, const Nibbles& second, const std::int8_t* x,
                             std::int32_t group_sum) {
#if defined(__AVXVNNI__)
  __m256i sum = _mm256_set1_epi32(-12 * group_sum);
  sum = _mm256_dpbusd_avx_epi32(sum, first.even, broadcast_quad(x));
  sum = _mm256_dpbusd_avx_epi32(sum, first.odd, broadcast_quad(x + 4));
  sum = _mm256_dpbusd_avx_epi32(sum, second.even, broadcast_quad(x + 8));
  return _mm256_dpbusd_avx_epi32(sum, second.odd, broadcast_quad(x + 12));
#else
  // Half of it comes off each of the two 16-bit sums. A sum has eight products of at most 12 x 127 without
  // what is added to the codes, and 12 x 8 x 127 of that which the other sum takes off: 24384, within 16
  // bits. On the way sums may wrap around; a single vpmaddubsw has at most 2 x 24 x 127 and does not
  // saturate.
  __m256i pairs = _mm256_add_epi16(_mm256_set1_epi16(static_cast<short>(-6 * group_sum)),
                                   _mm256_maddubs_epi16(first.even, broadcast_quad(x)));
  pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(first.odd, broadcast_quad(x + 4)));
  pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second.even, broadcast_quad(x + 8)));
  pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second.odd, broadcast_quad(x + 12)));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#endif
}

// Measured with mx4_speed: more rows at once are slower without VNNI, for want of registers.
#if defined(__AVXVNNI__)
constexpr std::size_t kMx4Rows = 4;
#else
constexpr std::size_t kMx4Rows = 2;
#endif

// Codes are looked up once for all rows, a quarter of the outputs at a time, so that the sums of all rows
// stay in registers; a single row has room for half of them.
template <std::size_t kRows>
inline void mx4_sums(const PanelView& panel, std::size_t first_block, std::size_t blocks,
                     const std::int8_t* codes, std::size_t codes_stride, const std::int32_t* group_sums,
                     std::size_t group_stride, Totals* sums) {
  constexpr std::size_t kEighths = kRows == 1 ? 4 : 2;
  const __m256i table = doubled_codes(12);
  for (std::size_t r = 0; r < kRows; ++r) clear(sums[r]);
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::byte* packed = panel.codes + (first_block + block) * kMx4BlockBytes;
    const std::byte* exponents = panel.exponents + (first_block + block) * kMx4ExponentBytes;
    prefetch<kMx4BlockBytes>(packed);
    for (std::size_t part = 0; part < 8; part += kEighths) {
      __m256i total[kRows][kEighths];
      for (std::size_t group = 0; group < 2; ++group) {
        const std::byte* bytes = packed + group * kQ4GroupBytes + part * 32;
        for (std::size_t i = 0; i < kEighths; ++i) {
          const Nibbles first = load_mx4(bytes + i * 32, table);
          const Nibbles second = load_mx4(bytes + kQ4PairBytes + i * 32, table);
          for (std::size_t r = 0; r < kRows; ++r) {
            const std::int8_t* x = codes + r * codes_stride + block * kMx4BlockCols + group * 16;
            const __m256i sum =
                mx4_group_sum(first, second, x, group_sums[(block * 2 + group) * group_stride + r]);
            total[r][i] = group == 0 ? sum : _mm256_add_epi32(total[r][i], sum);
            pin_to_register(total[r][i]);
          }
        }
      }
      for (std::size_t i = 0; i < kEighths; ++i) {
        const __m256 power = powers_of_two(widen_bytes(exponents + (part + i) * 8));
        for (std::size_t r = 0; r < kRows; ++r) {
          auto& t = sums[r].part[(part + i) / 2].part[(part + i) % 2];
          t = fma_part(__builtin_convertvector(reinterpret_cast<IntPart>(total[r][i]), FloatPart),
                       reinterpret_cast<FloatPart>(power), t);
        }
      }
    }
  }
}

// Exponents of up to four blocks of 64 outputs as shifts above the least of each output, where they are close
// enough (mx4_products-inl.h).
struct Mx4Folding {
  static constexpr std::size_t kBlocks = kChunkColsMax / kMx4BlockCols;

  alignas(32) std::uint8_t least[64];
  alignas(32) std::uint8_t shifts[kBlocks][64];

  // Whether all shifts are at most `largest_shift`. Blocks of zeros may have any exponent, so they do not
  // count where exponents are apart, and stay zero under any shift.
  bool fold(const PanelView& panel, std::size_t first_block, std::size_t blocks, char largest_shift) {
    const std::byte* exponents = panel.exponents + first_block * kMx4ExponentBytes;
    for (std::size_t half = 0; half < 64; half += 32) {
      __m256i present[kBlocks];
      for (auto& p : present) p = _mm256_set1_epi8(-1);
      if (fold_half(exponents, blocks, half, present, largest_shift)) continue;
      for (std::size_t block = 0; block < blocks; ++block)
        present[block] = rows_with_weights(panel.codes + (first_block + block) * kMx4BlockBytes + half * 4);
      if (!fold_half(exponents, blocks, half, present, largest_shift)) return false;
    }
    return true;
  }

 private:
  bool fold_half(const std::byte* exponents, std::size_t blocks, std::size_t half, const __m256i* present,
                 char largest_shift) {
    __m256i low = _mm256_set1_epi8(-1);
    __m256i high = _mm256_setzero_si256();
    for (std::size_t block = 0; block < blocks; ++block) {
      const __m256i e = load256(exponents + block * kMx4ExponentBytes + half);
      low = _mm256_min_epu8(low, _mm256_blendv_epi8(_mm256_set1_epi8(-1), e, present[block]));
      high = _mm256_max_epu8(high, _mm256_and_si256(e, present[block]));
    }
    low = _mm256_min_epu8(low, high);  // rows of zeros have nothing above
    // Saturating subtractions leave what is above each limit.
    const __m256i apart =
        _mm256_or_si256(_mm256_subs_epu8(_mm256_sub_epi8(high, low), _mm256_set1_epi8(largest_shift)),
                        _mm256_subs_epu8(high, _mm256_set1_epi8(static_cast<char>(kMx4FoldedExponentMax))));
    if (_mm256_testz_si256(apart, apart) == 0) return false;
    store256(least + half, low);
    for (std::size_t block = 0; block < blocks; ++block) {
      const __m256i e = load256(exponents + block * kMx4ExponentBytes + half);
      store256(shifts[block] + half, _mm256_sub_epi8(e, low));
    }
    return true;
  }

  // Of 32 outputs, all bits of the byte of each that has a weight other than zero.
  static __m256i rows_with_weights(const std::byte* packed) {
    __m256i zero_rows[4];
    for (std::size_t i = 0; i < 4; ++i) {
      __m256i any = _mm256_setzero_si256();
      for (std::size_t pair = 0; pair < 4; ++pair)
        any = _mm256_or_si256(any, load256(packed + pair * kQ4PairBytes + i * 32));
      const __m256i magnitude = _mm256_set1_epi8(0x77);  // both nibbles without their signs
      zero_rows[i] = _mm256_cmpeq_epi32(_mm256_and_si256(any, magnitude), _mm256_setzero_si256());
    }
    // Packing takes the halves of registers in turn, so quads of bytes are put in order again.
    const __m256i packed_rows = _mm256_packs_epi16(_mm256_packs_epi32(zero_rows[0], zero_rows[1]),
                                                   _mm256_packs_epi32(zero_rows[2], zero_rows[3]));
    const __m256i in_order =
        _mm256_permutevar8x32_epi32(packed_rows, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm256_xor_si256(in_order, _mm256_set1_epi8(-1));
  }
};
