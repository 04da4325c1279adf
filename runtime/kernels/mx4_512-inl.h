// Products with mx4 weights on 512-bit registers, for mx4_products-inl.h. avx512.cpp includes this once,
// after ByteBlock.

// Codes of mx4 as u8, twice their values with 12 added (kernels.h).
inline __m512i twelve_above() {
  return _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
}

// Sixteen bytes, one a lane.
inline __m512i widen_bytes(const void* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// 2^(exponent - 127). The one of 0 is not a normal float, and its bits are not the exponent's alone.
inline __m512 powers_of_two(__m512i exponents) {
  return _mm512_castsi512_ps(
      _mm512_max_epi32(_mm512_slli_epi32(exponents, 23), _mm512_set1_epi32(0x00400000)));
}

// The starting values of sums in the low bits of floats (mx4_products-inl.h).
inline __m512i float_zeros(__m512i exponents) {
  return _mm512_add_epi32(_mm512_slli_epi32(exponents, 23), _mm512_set1_epi32(kRoundMagicBits - 0x3F800000));
}

constexpr std::size_t kMx4Rows = 3;  // with four, sums do not stay in registers: half the speed

// Codes are looked up once for all rows. 12 x the block's sum of activations is subtracted again.
template <std::size_t kRows>
inline void mx4_sums(const PanelView& panel, std::size_t first_block, std::size_t blocks,
                     const std::int8_t* codes, std::size_t codes_stride, const std::int32_t* group_sums,
                     std::size_t group_stride, Totals* sums) {
  const __m512i table = twelve_above();
  __m512 total[kRows][4] = {};
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::byte* packed = panel.codes + (first_block + block) * kMx4BlockBytes;
    prefetch<kMx4BlockBytes>(packed);
    __m512i sum[kRows][4];
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::int32_t* groups = group_sums + block * 2 * group_stride + r;
      for (auto& s : sum[r]) s = _mm512_set1_epi32(-12 * (groups[0] + groups[group_stride]));
    }
    const std::int8_t* x = codes + block * kMx4BlockCols;
    for (std::size_t pair = 0; pair < 4; ++pair) {
      for (std::size_t i = 0; i < 4; ++i) {
        const Quads code = load_nibbles(packed + pair * kQ4PairBytes, i);
        const __m512i even = _mm512_shuffle_epi8(table, code.even);
        const __m512i odd = _mm512_shuffle_epi8(table, code.odd);
        for (std::size_t r = 0; r < kRows; ++r) {
          const std::int8_t* eight = x + r * codes_stride + pair * 8;
          sum[r][i] = _mm512_dpbusd_epi32(sum[r][i], even, broadcast_quad(eight));
          sum[r][i] = _mm512_dpbusd_epi32(sum[r][i], odd, broadcast_quad(eight + 4));
        }
      }
    }
    for (std::size_t i = 0; i < 4; ++i) {
      const __m512 power =
          powers_of_two(widen_bytes(panel.exponents + (first_block + block) * kMx4ExponentBytes + i * 16));
      for (std::size_t r = 0; r < kRows; ++r)
        total[r][i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][i]), power, total[r][i]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t i = 0; i < 4; ++i) sums[r].part[i].part[0] = reinterpret_cast<FloatPart>(total[r][i]);
}

// Codes of mx4 times two to the power of at most 3, by which a block's exponent is above the least one of its
// chunk: weights of at most 12 x 8, and sums of at most 96 x 127 x 128, which is below 2^22.
struct Mx4Block : ByteBlock {
  static constexpr std::size_t kGroupBytes = kQ4GroupBytes;
  static constexpr std::size_t kManyRows = 9;  // measured with mx4_speed

  [[nodiscard]] bool load(const PanelView& panel, std::size_t first_block, std::size_t blocks,
                          std::size_t chunks) {
    for (std::size_t chunk = 0; chunk < chunks; ++chunk, first_block += blocks) {
      Folding folding;
      if (!folding.fold(panel, first_block, blocks)) return false;
      for (std::size_t i = 0; i < 4; ++i)
        _mm512_store_si512(&zeros[chunk * 64 + i * 16], float_zeros(widen_bytes(folding.least + i * 16)));
      for (std::size_t block = 0; block < blocks; ++block)
        unpack(panel.codes + (first_block + block) * kMx4BlockBytes, folding.shifts[block],
               weights + (chunk * blocks + block) * 2 * kQ8GroupBytes);
    }
    return true;
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t out_stride) const {
    multiply_bytes<kCount, true>(rows, zeros, out, out_stride);
  }

 private:
  struct Folding {
    static constexpr std::size_t kBlocks = kChunkColsMax / kMx4BlockCols;

    alignas(64) std::uint8_t least[64];
    alignas(64) std::uint8_t shifts[kBlocks][64];

    // Blocks of zeros may have any exponent, so they do not count where exponents are apart, and stay zero
    // under any shift.
    bool fold(const PanelView& panel, std::size_t first_block, std::size_t blocks) {
      __m512i exponents[kBlocks];
      __mmask64 present[kBlocks];
      for (std::size_t block = 0; block < blocks; ++block) {
        exponents[block] = load512(panel.exponents + (first_block + block) * kMx4ExponentBytes);
        present[block] = ~__mmask64{0};
      }
      if (!fold(exponents, present, blocks)) {
        for (std::size_t block = 0; block < blocks; ++block)
          present[block] = rows_with_weights(panel.codes + (first_block + block) * kMx4BlockBytes);
        if (!fold(exponents, present, blocks)) return false;
      }
      return true;
    }

   private:
    bool fold(const __m512i* exponents, const __mmask64* present, std::size_t blocks) {
      __m512i low = _mm512_set1_epi8(-1);
      __m512i high = _mm512_setzero_si512();
      for (std::size_t block = 0; block < blocks; ++block) {
        low = _mm512_mask_min_epu8(low, present[block], low, exponents[block]);
        high = _mm512_mask_max_epu8(high, present[block], high, exponents[block]);
      }
      low = _mm512_min_epu8(low, high);  // rows of zeros have nothing above
      const __mmask64 apart =
          _mm512_cmpgt_epu8_mask(_mm512_sub_epi8(high, low), _mm512_set1_epi8(3)) |
          _mm512_cmpgt_epu8_mask(high, _mm512_set1_epi8(static_cast<char>(kMx4FoldedExponentMax)));
      if (apart != 0) return false;
      _mm512_store_si512(least, low);
      for (std::size_t block = 0; block < blocks; ++block)
        _mm512_store_si512(shifts[block], _mm512_sub_epi8(exponents[block], low));
      return true;
    }

    static __mmask64 rows_with_weights(const std::byte* packed) {
      const __m512i magnitude = _mm512_set1_epi8(0x77);  // both nibbles without their signs
      __mmask64 rows = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        __m512i any = _mm512_setzero_si512();
        for (std::size_t pair = 0; pair < 4; ++pair)
          any = _mm512_or_si512(any, load512(packed + pair * kQ4PairBytes + i * 64));
        rows |= static_cast<__mmask64>(_mm512_test_epi32_mask(any, magnitude)) << (16 * i);
      }
      return rows;
    }
  };

  // (code + 12) << shift is at most 192, so that no bit leaves its byte.
  static void unpack(const std::byte* packed, const std::uint8_t* shifts, std::uint8_t* out) {
    const __m512i table = twelve_above();
    for (std::size_t i = 0; i < 4; ++i) {
      const __m512i shift = widen_bytes(shifts + i * 16);
      const __m512i offset =
          _mm512_sub_epi8(_mm512_set1_epi8(-128), _mm512_sllv_epi32(_mm512_set1_epi8(12), shift));
      for (std::size_t pair = 0; pair < 4; ++pair) {
        const Quads code = load_nibbles(packed + pair * kQ4PairBytes, i);
        std::uint8_t* to = out + pair * 2 * kQuadBytes + i * 64;
        const __m512i even = _mm512_sllv_epi32(_mm512_shuffle_epi8(table, code.even), shift);
        const __m512i odd = _mm512_sllv_epi32(_mm512_shuffle_epi8(table, code.odd), shift);
        _mm512_store_si512(to, _mm512_add_epi8(even, offset));
        _mm512_store_si512(to + kQuadBytes, _mm512_add_epi8(odd, offset));
      }
    }
  }

  alignas(64) float zeros[kCols / kChunkColsMin * 64];  // [chunk][64]
};
