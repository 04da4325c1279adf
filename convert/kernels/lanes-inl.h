// SIMD vectors on any instruction set, by GCC's vector extensions. Each group of 16 weights has a lane of its
// own: a Floats or an Ints has one number for each group, a Shorts two (a pair of inputs). Each kernel file
// includes this once, inside its unnamed namespace, and compiles it with its own flags.

#if defined(__AVX512BW__)
constexpr std::size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::int16_t Shorts __attribute__((vector_size(kLanes * 4)));

template <typename V, typename T>
inline V load(const T* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}
template <typename V, typename T>
inline void store(T* to, const V& v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

inline Floats all(float x) { return x - Floats{}; }
inline Shorts all_shorts(int x) { return static_cast<std::int16_t>(x) - Shorts{}; }
template <typename V>
inline V lesser(V a, V b) {
  return a < b ? a : b;
}
template <typename V>
inline V greater(V a, V b) {
  return a > b ? a : b;
}

inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

/// Rounds to nearest, ties to even; |v| < 2^31.
inline Ints to_ints(Floats v) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Ints>(_mm512_cvtps_epi32(v));
#elif defined(__AVX2__)
  return reinterpret_cast<Ints>(_mm256_cvtps_epi32(v));
#else
  Ints result;
  for (std::size_t i = 0; i < kLanes; ++i) result[i] = static_cast<std::int32_t>(__builtin_rintf(v[i]));
  return result;
#endif
}

/// Puts `low` and `high` into the halves of each lane.
inline Shorts in_pairs(Ints low, Ints high) {
  return reinterpret_cast<Shorts>((low & 0xffff) | (high << 16));
}

/// a * b / 2^15, rounded to nearest.
inline Shorts multiply_fractions(Shorts a, Shorts b) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Shorts>(
      _mm512_mulhrs_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Shorts>(
      _mm256_mulhrs_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  for (std::size_t i = 0; i < 2 * kLanes; ++i) a[i] = static_cast<std::int16_t>((a[i] * b[i] + 0x4000) >> 15);
  return a;
#endif
}

/// The sum of the two products of each pair.
inline Ints sum_products(Shorts a, Shorts b) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Ints>(
      _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Ints>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  Ints result;
  for (std::size_t i = 0; i < kLanes; ++i) result[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return result;
#endif
}

/// Saturating sums.
inline Shorts add_within(Shorts a, Shorts b) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Shorts>(
      _mm512_adds_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Shorts>(
      _mm256_adds_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  for (std::size_t i = 0; i < 2 * kLanes; ++i) {
    const int sum = a[i] + b[i];
    a[i] = static_cast<std::int16_t>(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
  }
  return a;
#endif
}

/// Transposes eight rows of eight words each; rows are `from_stride` and `to_stride` words apart.
#if defined(__AVX2__)
inline void transpose_8x8(const float* from, std::size_t from_stride, float* to, std::size_t to_stride) {
  __m256 r[8];
  for (std::size_t i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(from + i * from_stride);
  __m256 pairs[8];
  for (std::size_t i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  __m256 quads[8];
  for (std::size_t i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31));
  }
}
#else
inline void transpose_8x8(const float* from, std::size_t from_stride, float* to, std::size_t to_stride) {
  for (std::size_t row = 0; row < 8; ++row)
    for (std::size_t col = 0; col < 8; ++col) to[col * to_stride + row] = from[row * from_stride + col];
}
#endif
