// Sixteen float lanes on any instruction set. Each kernel file includes this once, inside its unnamed
// namespace, and compiles it with its own flags: 1 x 512, 2 x 256 or 4 x 128 bits. It has no include guard,
// and nothing of it may be visible outside that namespace: the linker could keep a copy that was compiled for
// AVX-512 and run it on a machine without.
//
// IEEE 754 defines the result of every operation that is used here, so the lanes hold the same bits
// everywhere. That excludes approximations such as rsqrtps and rcpps, which differ between CPUs.

#if defined(__AVX512F__)
constexpr int kPartLanes = 16;
#elif defined(__AVX2__)
constexpr int kPartLanes = 8;
#else
constexpr int kPartLanes = 4;
#endif
constexpr int kParts = 16 / kPartLanes;

typedef float FloatPart __attribute__((vector_size(kPartLanes * 4)));
typedef std::int32_t IntPart __attribute__((vector_size(kPartLanes * 4)));
typedef std::int8_t BytePart __attribute__((vector_size(kPartLanes)));

/// Makes the compiler keep `v` in a register here. Without it GCC keeps copies of sums in memory, and
/// computes all products of an unrolled loop before it adds them up, which takes more registers than there
/// are. The empty assembly changes nothing, but the compiler must assume that it does.
template <typename T>
inline void pin_to_register(T& v) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(v));
#else
  static_cast<void>(v);
#endif
}

inline FloatPart fma_part(FloatPart a, FloatPart b, FloatPart c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  // Slow, as it calls the C library for each lane on x86-64-v2. But rounding the product before the addition
  // would give other bits than the instruction.
  for (int i = 0; i < kPartLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

struct Int16 {
  IntPart part[kParts];
};

struct Float16 {  // sixteen floats, not half precision
  FloatPart part[kParts];
};

// Copies register by register: GCC compiles a copy of all 64 bytes to 16-byte moves through memory, which the
// CPU cannot forward to wider loads.
inline Float16 load(const float* p) {
  Float16 v;
  for (int i = 0; i < kParts; ++i) __builtin_memcpy(&v.part[i], p + i * kPartLanes, sizeof(FloatPart));
  return v;
}

inline void store(float* p, const Float16& v) {
  for (int i = 0; i < kParts; ++i) __builtin_memcpy(p + i * kPartLanes, &v.part[i], sizeof(FloatPart));
}

inline Float16 broadcast(float x) {
  Float16 v;
  // GCC's vectors have no constructor for a broadcast. x - 0 is x for every x, also for -0, which x + 0 would
  // change.
  for (auto& part : v.part) part = x - FloatPart{};
  return v;
}

inline Float16 zero() { return Float16{}; }

inline Float16 operator+(Float16 a, const Float16& b) {
  for (int i = 0; i < kParts; ++i) a.part[i] += b.part[i];
  return a;
}
inline Float16 operator-(Float16 a, const Float16& b) {
  for (int i = 0; i < kParts; ++i) a.part[i] -= b.part[i];
  return a;
}
inline Float16 operator*(Float16 a, const Float16& b) {
  for (int i = 0; i < kParts; ++i) a.part[i] *= b.part[i];
  return a;
}
inline Float16 operator/(Float16 a, const Float16& b) {
  for (int i = 0; i < kParts; ++i) a.part[i] /= b.part[i];
  return a;
}
inline Float16 fma(const Float16& a, const Float16& b, Float16 c) {
  for (int i = 0; i < kParts; ++i) c.part[i] = fma_part(a.part[i], b.part[i], c.part[i]);
  return c;
}
// a > b ? a : b, so NaN in a gives b. maxps does the same, but GCC does not see that.
inline FloatPart max_part(FloatPart a, FloatPart b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
inline FloatPart min_part(FloatPart a, FloatPart b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
inline Float16 max(Float16 a, const Float16& b) {
  for (int i = 0; i < kParts; ++i) a.part[i] = max_part(a.part[i], b.part[i]);
  return a;
}
inline Float16 min(Float16 a, const Float16& b) {
  for (int i = 0; i < kParts; ++i) a.part[i] = min_part(a.part[i], b.part[i]);
  return a;
}

inline Int16 bits_of(const Float16& v) {
  Int16 bits;
  __builtin_memcpy(&bits, &v, sizeof(v));
  return bits;
}
inline Float16 float_of_bits(const Int16& bits) {
  Float16 v;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}

inline Float16 abs(const Float16& v) {
  Int16 bits = bits_of(v);
  for (auto& part : bits.part) part &= 0x7FFFFFFF;
  return float_of_bits(bits);
}

typedef float FloatQuad __attribute__((vector_size(16)));
typedef std::int32_t IntQuad __attribute__((vector_size(16)));

// The reduction tree, the same for every register width: lane i with i + 8, then + 4, + 2, + 1. This is its
// first half.
inline FloatQuad sum_to_quad(const Float16& v) {
#if defined(__AVX512F__)
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v.part[0]), _mm512_extractf32x8_ps(v.part[0], 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif defined(__AVX2__)
  const __m256 half = v.part[0] + v.part[1];
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#else
  return (v.part[0] + v.part[2]) + (v.part[1] + v.part[3]);
#endif
}

// The second half of the tree.
inline float sum_of(const Float16& v) {
  const FloatQuad sum = sum_to_quad(v);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// The second half of the tree for four vectors at once.
inline FloatQuad sums_of(FloatQuad a, FloatQuad b, FloatQuad c, FloatQuad d) {
  const FloatQuad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const FloatQuad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

/// The largest of sixteen values that are not NaN. The order of comparisons does not matter.
inline float max_of(const Float16& v) {
  FloatQuad quad[4];
  __builtin_memcpy(&quad, &v, sizeof(v));
  for (int width = 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) quad[i] = quad[i] > quad[i + width] ? quad[i] : quad[i + width];
  const float even = quad[0][0] > quad[0][2] ? quad[0][0] : quad[0][2];
  const float odd = quad[0][1] > quad[0][3] ? quad[0][1] : quad[0][3];
  return even > odd ? even : odd;
}

inline std::int32_t sum_of(const Int16& v) {
  IntQuad quad[4];
  __builtin_memcpy(&quad, &v, sizeof(v));
  const IntQuad sum = (quad[0] + quad[1]) + (quad[2] + quad[3]);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/// Stores the lowest byte of each lane.
inline void store_s8(std::int8_t* p, const Int16& v) {
  for (int i = 0; i < kParts; ++i) {
    const BytePart bytes = __builtin_convertvector(v.part[i], BytePart);
    __builtin_memcpy(p + i * kPartLanes, &bytes, sizeof(bytes));
  }
}

// Adding 1.5 * 2^23 rounds to an integer (nearest, ties to even) and leaves it in the low mantissa bits, for
// |x| < 2^22: the sum lies between 2^23 and 2^24, where the last bit of a float is worth 1.
constexpr float kRoundMagic = 12582912.0f;
constexpr std::int32_t kRoundMagicBits = 0x4B400000;

// exp(x) to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2; 2^n by exponent bits, exp(r) by the polynomial of
// Cephes' expf. Below -87.3 the result is 0, above 88.3 it stays at the largest value of the range; NaN stays
// NaN.
inline Float16 exp(Float16 x) {
  constexpr float kLow = -87.33654f;  // ln of the smallest normal float
  const Float16 original = x;
  x = min(max(x, broadcast(kLow)), broadcast(88.3762f));
  const Float16 shifted = fma(x, broadcast(1.44269504088896341f), broadcast(kRoundMagic));
  const Float16 n = shifted - broadcast(kRoundMagic);
  // ln 2 in two parts; the first has few bits, so that n times it is exact.
  Float16 r = fma(n, broadcast(-0.693359375f), x);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Float16 p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  p = fma(p, r * r, r + broadcast(1.0f));
  Int16 power = bits_of(shifted);
  // The low bits of `shifted` hold n; shifting them into the exponent drops the rest.
  for (auto& part : power.part) part = (part << 23) + 0x3F800000;
  Float16 result = p * float_of_bits(power);
  for (int i = 0; i < kParts; ++i) {
    // The clamp above has lost two cases: what is below kLow must give 0, and min and max turned a NaN into a
    // number.
    const IntPart below = original.part[i] < kLow;
    const IntPart nan = original.part[i] != original.part[i];
    IntPart result_bits;
    __builtin_memcpy(&result_bits, &result.part[i], sizeof(result_bits));
    result_bits = (result_bits & ~below) | nan;  // all bits set are a NaN
    __builtin_memcpy(&result.part[i], &result_bits, sizeof(result_bits));
  }
  return result;
}

// tanh(x) to about 2 ulp: the polynomial of Cephes' tanhf for small |x|, where 1 - 2 / (exp(2 |x|) + 1) loses
// digits. NaN stays NaN.
inline Float16 tanh(const Float16& x) {
  constexpr float kSmall = 0.625f;
  const Float16 positive = abs(x);
  const Float16 square = x * x;
  Float16 p = broadcast(-5.70498872745e-3f);
  p = fma(p, square, broadcast(2.06390887954e-2f));
  p = fma(p, square, broadcast(-5.37397155531e-2f));
  p = fma(p, square, broadcast(1.33314422036e-1f));
  p = fma(p, square, broadcast(-3.33332819422e-1f));
  const Int16 small = bits_of(fma(p * square, x, x));
  const Float16 one = broadcast(1.0f);
  Int16 result = bits_of(one - broadcast(2.0f) / (exp(positive + positive) + one));
  const Int16 bits = bits_of(x);
  for (int i = 0; i < kParts; ++i) {
    const IntPart is_small = positive.part[i] < kSmall;
    const IntPart sign = bits.part[i] & static_cast<std::int32_t>(0x80000000);
    result.part[i] = (small.part[i] & is_small) | ((result.part[i] | sign) & ~is_small);
  }
  return float_of_bits(result);
}

inline IntPart widen_s8(const std::int8_t* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<IntPart>(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return reinterpret_cast<IntPart>(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  return IntPart{p[0], p[1], p[2], p[3]};
#endif
}

inline Float16 load_s8(const std::int8_t* p) {
  Float16 v;
  for (int i = 0; i < kParts; ++i)
    v.part[i] = __builtin_convertvector(widen_s8(p + i * kPartLanes), FloatPart);
  return v;
}

inline IntPart widen_u16(const std::uint16_t* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<IntPart>(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__AVX2__)
  return reinterpret_cast<IntPart>(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  return IntPart{p[0], p[1], p[2], p[3]};
#endif
}

// A bf16 is the upper half of an f32.
inline Float16 load_bf16(const std::uint16_t* p) {
  Float16 v;
  for (int i = 0; i < kParts; ++i)
    v.part[i] = reinterpret_cast<FloatPart>(widen_u16(p + i * kPartLanes) << 16);
  return v;
}
