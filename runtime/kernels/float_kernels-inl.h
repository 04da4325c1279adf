// Float kernels over the sixteen lanes of simd-inl.h. Each kernel file includes this once, after simd-inl.h,
// inside its unnamed namespace. kernels.h says what each function computes.
//
// The bits must be the same on every instruction set. So every sum is kept in sixteen lanes, in the order of
// the elements, and reduced by the one tree of simd-inl.h, however wide the registers are. No function has a
// tail: rows are padded with zeros to kLanes.

void rms_norm(const float* x, const float* weight, float eps, std::size_t true_count, std::size_t n,
              float* out) {
  Float16 squares = zero();
  for (std::size_t i = 0; i < n; i += 16) {
    const Float16 v = load(x + i);
    squares = fma(v, v, squares);
  }
  const float mean = sum_of(squares) / static_cast<float>(true_count);
  const Float16 scale = broadcast(1.0f / __builtin_sqrtf(mean + eps));
  for (std::size_t i = 0; i < n; i += 16) store(out + i, load(x + i) * scale * load(weight + i));
}

/// Rows of floats, `stride` apart.
struct FloatRows {
  const float* first;
  std::size_t stride;

  [[nodiscard]] const float* operator[](std::size_t row) const { return first + row * stride; }
};

// All sums in registers: each waits for its last addition, so one alone would leave the multipliers idle for
// most of the time.
template <std::size_t kRows, std::size_t kCount>
inline void dots_tile(FloatRows x, FloatRows w, std::size_t n, float* out, std::size_t out_stride) {
  Float16 total[kRows][kCount];
  for (auto& row : total)
    for (Float16& t : row) t = zero();
  for (std::size_t i = 0; i < n; i += 16) {
    Float16 loaded[kCount];
    for (std::size_t e = 0; e < kCount; ++e) {
      loaded[e] = load(w[e] + i);
      // A single row of x reads w once, from memory, and the hardware does not follow so many rows: the rows
      // of the next tile are asked for. Beyond the last row that does no harm.
      if constexpr (kRows == 1) __builtin_prefetch(w[e + kCount] + i, 0, 2);
    }
    for (std::size_t r = 0; r < kRows; ++r) {
      const Float16 v = load(x[r] + i);
      for (std::size_t e = 0; e < kCount; ++e) total[r][e] = fma(v, loaded[e], total[r][e]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t e = 0; e < kCount; ++e) out[r * out_stride + e] = sum_of(total[r][e]);
}

// All rows of w in steps of kCount, and the rest one by one.
template <std::size_t kRows, std::size_t kCount>
inline void dots_of_rows(FloatRows x, FloatRows w, std::size_t count, std::size_t n, float* out,
                         std::size_t out_stride) {
  std::size_t e = 0;
  for (; e + kCount <= count; e += kCount)
    dots_tile<kRows, kCount>(x, {w[e], w.stride}, n, out + e, out_stride);
  for (; e < count; ++e) dots_tile<kRows, 1>(x, {w[e], w.stride}, n, out + e, out_stride);
}

void dots(const float* x, std::size_t x_stride, std::size_t rows, const float* w, std::size_t w_stride,
          std::size_t count, std::size_t n, float* out, std::size_t out_stride) {
  // 16 sums of 32 registers, 8 of 16.
  constexpr std::size_t kRows = kParts == 1 ? 4 : 2;
  constexpr std::size_t kTogether = kParts == 1 ? 4 : 2;
  constexpr std::size_t kOfOneRow = kParts == 1 ? 8 : 4;
  std::size_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    dots_of_rows<kRows, kTogether>({x + r * x_stride, x_stride}, {w, w_stride}, count, n,
                                   out + r * out_stride, out_stride);
  for (; r < rows; ++r)
    dots_of_rows<1, kOfOneRow>({x + r * x_stride, x_stride}, {w, w_stride}, count, n, out + r * out_stride,
                               out_stride);
}

void silu_multiply(const float* gate, const float* up, std::size_t n, float* out) {
  const Float16 one = broadcast(1.0f);
  for (std::size_t i = 0; i < n; i += 16) {
    const Float16 g = load(gate + i);
    store(out + i, g / (one + exp(zero() - g)) * load(up + i));
  }
}

// (1 + tanh(y)) / 2 is 1 / (1 + exp(-2 y)), which needs no tanh and is as exact for large negative y.
void gelu_multiply(const float* gate, const float* up, std::size_t n, float* out) {
  constexpr float kTwice = 1.5957691216057308f;  // 2 sqrt(2 / pi)
  constexpr float kCubic = 0.044715f * 1.5957691216057308f;
  const Float16 one = broadcast(1.0f);
  for (std::size_t i = 0; i < n; i += 16) {
    const Float16 g = load(gate + i);
    const Float16 y = g * fma(g * g, broadcast(kCubic), broadcast(kTwice));
    store(out + i, g / (one + exp(zero() - y)) * load(up + i));
  }
}

// The limits are the first operands of min() and max(), which give the second one where one is a NaN.
void clamped_swiglu(float alpha, float limit, const float* gate, const float* up, std::size_t n, float* out) {
  const Float16 one = broadcast(1.0f);
  const Float16 high = broadcast(limit);
  for (std::size_t i = 0; i < n; i += 16) {
    const Float16 g = min(high, load(gate + i));
    const Float16 u = min(high, max(broadcast(-limit), load(up + i)));
    store(out + i, g / (one + exp(broadcast(-alpha) * g)) * (u + one));
  }
}

void activate(const GatedActivation& activation, const float* gate, const float* up, std::size_t n,
              float* out) {
  switch (activation.kind) {
    case ActivationKind::silu: return silu_multiply(gate, up, n, out);
    case ActivationKind::gelu_tanh: return gelu_multiply(gate, up, n, out);
    case ActivationKind::clamped_swiglu:
      return clamped_swiglu(activation.alpha, activation.limit, gate, up, n, out);
  }
}

void soft_cap(float cap, std::size_t n, float* x) {
  const Float16 c = broadcast(cap);
  for (std::size_t i = 0; i < n; i += 16) store(x + i, c * tanh(load(x + i) / c));
}

void sigmoid(float* x, std::size_t n) {
  const Float16 one = broadcast(1.0f);
  for (std::size_t i = 0; i < n; i += 16) store(x + i, one / (one + exp(zero() - load(x + i))));
}

void add_scaled(const float* x, float scale, std::size_t n, float* y) {
  const Float16 s = broadcast(scale);
  for (std::size_t i = 0; i < n; i += 16) store(y + i, fma(s, load(x + i), load(y + i)));
}

void add(const float* x, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; i += 16) store(y + i, load(y + i) + load(x + i));
}

void multiply(const float* scale, std::size_t n, float* x) {
  for (std::size_t i = 0; i < n; i += 16) store(x + i, load(x + i) * load(scale + i));
}

// Fills the last register behind `count` values with -infinity, which is never the largest value and adds
// nothing to a sum of exp. Buffers of scores have room for it.
inline void end_with_nothing(float* x, std::size_t count) {
  for (std::size_t i = count; i % 16 != 0; ++i) x[i] = -__builtin_inff();
}

inline float largest(float* x, std::size_t count) {
  end_with_nothing(x, count);
  Float16 most = broadcast(-__builtin_inff());
  for (std::size_t i = 0; i < count; i += 16) most = max(load(x + i), most);
  return max_of(most);
}

float exp_sum(float* x, std::size_t count, float max) {
  end_with_nothing(x, count);
  const Float16 m = broadcast(max);
  Float16 total = zero();
  for (std::size_t i = 0; i < count; i += 16) {
    const Float16 e = exp(load(x + i) - m);
    store(x + i, e);
    total = total + e;
  }
  return sum_of(total);
}

std::int32_t quantize_chunk(const float* x, std::size_t count, std::int8_t* codes, float* scale,
                            std::int32_t* group_sums, std::size_t group_stride) {
  Float16 largest = zero();
  // max() drops a NaN, and integer codes cannot hold one. So NaN and infinity are carried by the scale
  // instead: it makes all outputs of the row NaN, and the router or the check of the logits refuses them.
  Float16 poison = zero();  // v - v is 0, or NaN when v is not finite
  for (std::size_t i = 0; i < count; i += 16) {
    const Float16 v = load(x + i);
    largest = max(abs(v), largest);
    poison = poison + (v - v);
  }
  const float amax = max_of(largest);
  *scale = amax / 127.0f + sum_of(poison);
  const Float16 inverse = broadcast(amax > 0 ? 127.0f / amax : 0.0f);
  std::int32_t total = 0;
  for (std::size_t i = 0; i < count; i += 16) {
    // Clamped, because the inverse of a tiny maximum overflows to infinity, and because x may not be finite.
    // Codes are symmetric: -128 does not occur, and the bounds of the 16-bit sums in integers_256-inl.h rely
    // on that.
    const Float16 scaled = min(max(load(x + i) * inverse, broadcast(-127.0f)), broadcast(127.0f));
    Int16 code = bits_of(scaled + broadcast(kRoundMagic));
    for (auto& part : code.part) part -= kRoundMagicBits;
    store_s8(codes + i, code);
    const std::int32_t sum = sum_of(code);
    group_sums[i / 16 * group_stride] = sum;
    total += sum;
  }
  return total;
}

/// Integer sums of a panel's 64 outputs over one chunk, in registers where there are enough of them.
struct Sums {
  IntPart part[4 * kParts];
};

struct Totals {
  Float16 part[4];
};

inline Totals load_totals(const float* p) { return {{load(p), load(p + 16), load(p + 32), load(p + 48)}}; }

// fma(float(sums), scale, totals)
inline void accumulate(const Sums& sums, float scale, Totals& totals) {
  const Float16 s = broadcast(scale);
  for (int i = 0; i < 4; ++i) {
    Float16 exact;  // 128 products of at most 128 x 127 are below 2^24, so the conversion does not round
    for (int p = 0; p < kParts; ++p)
      exact.part[p] = __builtin_convertvector(sums.part[i * kParts + p], FloatPart);
    totals.part[i] = fma(exact, s, totals.part[i]);
  }
}

// This takes a scale for each output.
inline void accumulate(const Sums& sums, const float* scales, Totals& totals) {
  for (int i = 0; i < 4; ++i) {
    Float16 exact;
    for (int p = 0; p < kParts; ++p)
      exact.part[p] = __builtin_convertvector(sums.part[i * kParts + p], FloatPart);
    totals.part[i] = fma(exact, load(scales + i * 16), totals.part[i]);
  }
}

// Rounds to nearest, ties to even: adds half of the last bit that stays, less one when that bit is 0. A NaN
// stays a (quiet) NaN instead of becoming infinity by the carry.
void to_bf16(const float* x, std::size_t n, std::uint16_t* out) {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof(bits));
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    const std::uint32_t rounded = bits + 0x7FFFu + (bits >> 16 & 1u);
    out[i] = static_cast<std::uint16_t>(nan ? bits >> 16 | 0x40u : rounded >> 16);
  }
}

inline Float16 load_element(const float* p) { return load(p); }
inline Float16 load_element(const std::uint16_t* p) { return load_bf16(p); }
inline Float16 load_element(const std::int8_t* p) { return load_s8(p); }

// The number of keys, or of registers of a value, that are computed together. Their sums are independent, so
// that no multiplication waits for the one before, and they share the loads of queries or weights. Where a
// Float16 takes several registers its parts are independent sums already, and registers are few.
constexpr std::size_t kSideBySide = kParts == 1 ? 4 : 1;

/// Prefetches `count` elements. Attention reads a block of keys and a block of values by turns, and a block
/// is too short for the hardware prefetcher to catch up. So values are prefetched while keys are read, and
/// the next keys while values are read.
template <typename T>
inline void prefetch_range(const T* p, std::size_t count) {
  for (std::size_t i = 0; i < count * sizeof(T); i += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(p) + i);
}

/// Computes the scores of kKeys keys that are adjacent in memory: score[query * kKvPageTokens + key].
template <std::size_t kQueries, std::size_t kKeys, typename T>
inline void score_keys(const float* queries, const T* keys, std::size_t stride, float* score) {
  Float16 total[kKeys][kQueries];
#pragma GCC unroll 4
  for (auto& of_key : total)
#pragma GCC unroll 4
    for (auto& t : of_key) t = zero();
  for (std::size_t i = 0; i < stride; i += 16) {
    Float16 key[kKeys];
#pragma GCC unroll 4
    for (std::size_t k = 0; k < kKeys; ++k) key[k] = load_element(keys + k * stride + i);
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) {
      const Float16 query = load(queries + q * stride + i);
#pragma GCC unroll 4
      for (std::size_t k = 0; k < kKeys; ++k) total[k][q] = fma(query, key[k], total[k][q]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t k = 0; k < kKeys; ++k) {
    FloatQuad quads[4] = {};
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) quads[q] = sum_to_quad(total[k][q]);
    const FloatQuad sums = sums_of(quads[0], quads[1], quads[2], quads[3]);
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) score[q * kKvPageTokens + k] = sums[q];
  }
}

/// Adds `count` rows of values times weight[query * kKvPageTokens + row] to kColumns x 16 columns of each
/// query's result. `next_keys` has the same layout as `values` and is prefetched.
template <std::size_t kQueries, std::size_t kColumns, typename T>
inline void add_values(const T* values, const T* next_keys, std::size_t count, std::size_t stride,
                       const float* weight, float* out) {
  Float16 total[kColumns][kQueries];
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kColumns; ++c)
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) total[c][q] = load(out + q * stride + c * 16);
  for (std::size_t p = 0; p < count; ++p) {
    Float16 value[kColumns];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kColumns; ++c) value[c] = load_element(values + p * stride + c * 16);
    prefetch_range(next_keys + p * stride, kColumns * 16);
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) {
      const Float16 w = broadcast(weight[q * kKvPageTokens + p]);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kColumns; ++c) total[c][q] = fma(w, value[c], total[c][q]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kColumns; ++c)
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) store(out + q * stride + c * 16, total[c][q]);
}

// Softmax attention in one pass over the keys (online softmax, arXiv 1805.02867): after each block of 64
// positions the totals are rescaled when the maximum has grown, so no score of earlier blocks is kept,
// whatever the context. Blocks are pages at absolute positions and do not depend on where a prompt was cut,
// so neither do the bits. A sliding window may begin within a block.
//
// A sink is like a position in front of all others whose value is zero: the maximum begins with its score,
// and the denominator with exp(0).
//
// Queries share the loads of keys and values; each query has its own sums, so its bits do not depend on how
// many are computed together.
template <int kQueries, typename T>
void attend_to(const float* queries, const KeyValueView& kv, std::size_t first, std::size_t end,
               const ScoreRule& rule, float* out) {
  constexpr bool kScaled = sizeof(T) == 1;
  const std::size_t stride = kv.stride;
  const auto result = [&](int q) { return out + static_cast<std::size_t>(q) * stride; };
  float max_so_far[kQueries];
  float denominator[kQueries];
  alignas(64) float score[kQueries * kKvPageTokens];
  for (int q = 0; q < kQueries; ++q) {
    max_so_far[q] = rule.sinks != nullptr ? rule.sinks[q] : -__builtin_inff();
    denominator[q] = rule.sinks != nullptr ? 1.0f : 0.0f;
    for (std::size_t i = 0; i < stride; i += 16) store(result(q) + i, zero());
  }
  for (std::size_t block = first / kKvPageTokens * kKvPageTokens; block < end; block += kKvPageTokens) {
    const std::size_t begin = block < first ? first : block;
    const std::size_t count = (block + kKvPageTokens < end ? block + kKvPageTokens : end) - begin;
    const std::size_t row = begin - block;
    const std::byte* page = kv.pages[block / kKvPageTokens];
    const T* keys = reinterpret_cast<const T*>(page + kv.keys_offset_bytes) + row * stride;
    const T* values = reinterpret_cast<const T*>(page + kv.values_offset_bytes) + row * stride;
    const auto* key_scales = reinterpret_cast<const float*>(page + kv.key_scales_offset_bytes) + row;
    const auto* value_scales = reinterpret_cast<const float*>(page + kv.value_scales_offset_bytes) + row;
    const bool last = block + kKvPageTokens >= end;
    // Something valid to prefetch in the last block: there may be no next page.
    const T* next_keys =
        last ? keys : reinterpret_cast<const T*>(kv.pages[block / kKvPageTokens + 1] + kv.keys_offset_bytes);
    std::size_t p = 0;
    for (; p + kSideBySide <= count; p += kSideBySide) {
      score_keys<kQueries, kSideBySide>(queries, keys + p * stride, stride, score + p);
      prefetch_range(values + p * stride, kSideBySide * stride);
    }
    for (; p < count; ++p) score_keys<kQueries, 1>(queries, keys + p * stride, stride, score + p);
    for (int q = 0; q < kQueries; ++q) {
      float* const of_query = score + static_cast<std::size_t>(q) * kKvPageTokens;
      if constexpr (kScaled)
        for (std::size_t i = 0; i < count; ++i) of_query[i] *= key_scales[i];
      if (rule.soft_cap > 0) {
        end_with_nothing(of_query, count);
        soft_cap(rule.soft_cap, (count + 15) / 16 * 16, of_query);
      }
      const float block_max = largest(of_query, count);
      // In the first block the factor is exp(-infinity) = 0, and the totals are 0 already.
      if (block_max > max_so_far[q]) {
        alignas(64) float rescale[16] = {max_so_far[q]};
        const float factor = exp_sum(rescale, 1, block_max);
        denominator[q] *= factor;
        for (std::size_t i = 0; i < stride; i += 16)
          store(result(q) + i, load(result(q) + i) * broadcast(factor));
        max_so_far[q] = block_max;
      }
      denominator[q] += exp_sum(of_query, count, max_so_far[q]);
      if constexpr (kScaled)
        for (std::size_t i = 0; i < count; ++i) of_query[i] *= value_scales[i];
    }
    std::size_t col = 0;
    for (; col + kSideBySide * 16 <= stride; col += kSideBySide * 16)
      add_values<kQueries, kSideBySide>(values + col, next_keys + col, count, stride, score, out + col);
    for (; col < stride; col += 16)
      add_values<kQueries, 1>(values + col, next_keys + col, count, stride, score, out + col);
  }
  for (int q = 0; q < kQueries; ++q) {
    const Float16 inverse = broadcast(1.0f / denominator[q]);
    for (std::size_t i = 0; i < stride; i += 16) store(result(q) + i, load(result(q) + i) * inverse);
  }
}

template <int kQueries>
void attend_to(const float* queries, const KeyValueView& kv, std::size_t first, std::size_t end,
               const ScoreRule& rule, float* out) {
  switch (kv.element) {
    case KvElement::f32: return attend_to<kQueries, float>(queries, kv, first, end, rule, out);
    case KvElement::bf16: return attend_to<kQueries, std::uint16_t>(queries, kv, first, end, rule, out);
    case KvElement::s8: return attend_to<kQueries, std::int8_t>(queries, kv, first, end, rule, out);
  }
}

void attend(const float* queries, std::size_t count, const KeyValueView& kv, std::size_t first,
            std::size_t end, const ScoreRule& rule, float* out) {
  ScoreRule rest = rule;
  const auto next = [&](std::size_t computed) {
    queries += computed * kv.stride;
    out += computed * kv.stride;
    count -= computed;
    if (rest.sinks != nullptr) rest.sinks += computed;
  };
  // A template for each number of queries, so that their sums stay in registers.
  for (; count >= 4; next(4)) attend_to<4>(queries, kv, first, end, rest, out);
  for (; count >= 2; next(2)) attend_to<2>(queries, kv, first, end, rest, out);
  for (; count > 0; next(1)) attend_to<1>(queries, kv, first, end, rest, out);
}
