// Attention over latents (arXiv 2405.04434): all heads of a token read the same rows, which are keys and
// values at once. Each kernel file includes this once, after float_kernels-inl.h, inside its unnamed
// namespace. kernels.h says what the function computes.
//
// A page of rows is read by all queries before the next one, so that memory delivers each row once, however
// many heads there are. Queries share loads in small groups; each has its own sums in one order, so its bits
// do not depend on the group, nor on the instruction set. Blocks and their softmax are those of attend().

constexpr std::size_t kLatentKeys = kParts == 1 ? 4 : 1;  ///< rows whose scores are computed together

/// total[key][query] += the lanes of key x query over `cols` columns.
template <std::size_t kQueries, std::size_t kKeys, typename T>
inline void add_dots(const float* queries, std::size_t query_stride, const T* keys, std::size_t cols,
                     Float16 (&total)[kKeys][kQueries]) {
  for (std::size_t i = 0; i < cols; i += 16) {
    Float16 key[kKeys];
#pragma GCC unroll 4
    for (std::size_t k = 0; k < kKeys; ++k) key[k] = load_element(keys + k * cols + i);
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) {
      const Float16 query = load(queries + q * query_stride + i);
#pragma GCC unroll 4
      for (std::size_t k = 0; k < kKeys; ++k) total[k][q] = fma(query, key[k], total[k][q]);
    }
  }
}

/// The sums of the lanes of total[key][query], one query an element.
template <std::size_t kQueries>
inline FloatQuad query_sums(const Float16 (&total)[kQueries]) {
  FloatQuad quads[4] = {};
#pragma GCC unroll 4
  for (std::size_t q = 0; q < kQueries; ++q) quads[q] = sum_to_quad(total[q]);
  return sums_of(quads[0], quads[1], quads[2], quads[3]);
}

/// Some rows of a page, for the innermost loops.
template <typename T>
struct LatentRows {
  const T* latents;
  const T* rotary;
  const float* latent_scales;  ///< s8 only
  const float* rotary_scales;  ///< s8 only
  std::size_t latent_cols;
  std::size_t rotary_cols;

  [[nodiscard]] LatentRows from(std::size_t row) const {
    return {latents + row * latent_cols,
            rotary + row * rotary_cols,
            latent_scales + row,
            rotary_scales + row,
            latent_cols,
            rotary_cols};
  }
  [[nodiscard]] std::size_t query_stride() const { return latent_cols + rotary_cols; }
};

/// score[query * kKvPageTokens + row] of kKeys rows.
template <std::size_t kQueries, std::size_t kKeys, typename T>
inline void score_latents(const float* queries, const LatentRows<T>& rows, float* score) {
  const std::size_t stride = rows.query_stride();
  Float16 total[kKeys][kQueries] = {};
  add_dots(queries, stride, rows.latents, rows.latent_cols, total);
  if constexpr (sizeof(T) == 1) {
    // The two parts of a row have different scales.
    Float16 rotary[kKeys][kQueries] = {};
    add_dots(queries + rows.latent_cols, stride, rows.rotary, rows.rotary_cols, rotary);
    for (std::size_t k = 0; k < kKeys; ++k) {
      const FloatQuad sums =
          query_sums(total[k]) * rows.latent_scales[k] + query_sums(rotary[k]) * rows.rotary_scales[k];
      for (std::size_t q = 0; q < kQueries; ++q) score[q * kKvPageTokens + k] = sums[q];
    }
  } else {
    add_dots(queries + rows.latent_cols, stride, rows.rotary, rows.rotary_cols, total);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < kKeys; ++k) {
      const FloatQuad sums = query_sums(total[k]);
#pragma GCC unroll 4
      for (std::size_t q = 0; q < kQueries; ++q) score[q * kKvPageTokens + k] = sums[q];
    }
  }
}

/// Adds `count` rows times weight[query * kKvPageTokens + row] to kColumns x 16 columns of each result.
template <std::size_t kQueries, std::size_t kColumns, typename T>
inline void add_latents(const T* latents, std::size_t count, std::size_t stride, const float* weight,
                        float* out, std::size_t out_stride) {
  Float16 total[kColumns][kQueries];
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kColumns; ++c)
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) total[c][q] = load(out + q * out_stride + c * 16);
  for (std::size_t p = 0; p < count; ++p) {
    Float16 value[kColumns];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kColumns; ++c) value[c] = load_element(latents + p * stride + c * 16);
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
    for (std::size_t q = 0; q < kQueries; ++q) store(out + q * out_stride + c * 16, total[c][q]);
}

/// What a query knows after some pages.
struct SoftmaxState {
  float max;
  float denominator;
};

/// Turns the scores of a page into weights, and rescales the result when the maximum has grown (online
/// softmax, arXiv 1805.02867).
inline void weigh_page(float* score, std::size_t count, SoftmaxState& state, float* out, std::size_t cols) {
  const float page_max = largest(score, count);
  // In the first page the factor is exp(-infinity) = 0, and the totals are 0 already.
  if (page_max > state.max) {
    alignas(64) float rescale[16] = {state.max};
    const float factor = exp_sum(rescale, 1, page_max);
    state.denominator *= factor;
    for (std::size_t i = 0; i < cols; i += 16) store(out + i, load(out + i) * broadcast(factor));
    state.max = page_max;
  }
  state.denominator += exp_sum(score, count, state.max);
}

/// Takes one page into the results of kQueries queries. `next`: the latents of the next page, which are
/// prefetched; or null.
template <std::size_t kQueries, typename T>
inline void take_page(const float* queries, const LatentRows<T>& rows, std::size_t count, const T* next,
                      SoftmaxState* states, float* out, std::size_t out_stride) {
  alignas(64) float score[kQueries * kKvPageTokens];
  std::size_t p = 0;
  for (; p + kLatentKeys <= count; p += kLatentKeys) {
    score_latents<kQueries, kLatentKeys>(queries, rows.from(p), score + p);
    if (next != nullptr) prefetch_range(next + p * rows.latent_cols, kLatentKeys * rows.latent_cols);
  }
  for (; p < count; ++p) score_latents<kQueries, 1>(queries, rows.from(p), score + p);
  for (std::size_t q = 0; q < kQueries; ++q) {
    float* const of_query = score + q * kKvPageTokens;
    weigh_page(of_query, count, states[q], out + q * out_stride, rows.latent_cols);
    if constexpr (sizeof(T) == 1)
      for (std::size_t i = 0; i < count; ++i) of_query[i] *= rows.latent_scales[i];
  }
  std::size_t col = 0;
  for (; col + kSideBySide * 16 <= rows.latent_cols; col += kSideBySide * 16)
    add_latents<kQueries, kSideBySide>(rows.latents + col, count, rows.latent_cols, score, out + col,
                                       out_stride);
  for (; col < rows.latent_cols; col += 16)
    add_latents<kQueries, 1>(rows.latents + col, count, rows.latent_cols, score, out + col, out_stride);
}

template <typename T>
void attend_latents_to(const float* queries, std::size_t count, const KeyValueView& kv, std::size_t end,
                       float* out, std::size_t out_stride) {
  SoftmaxState states[kLatentQueries];
  for (std::size_t q = 0; q < count; ++q) {
    states[q] = {-__builtin_inff(), 0};
    for (std::size_t i = 0; i < kv.stride; i += 16) store(out + q * out_stride + i, zero());
  }
  const std::size_t query_stride = kv.stride + kv.value_stride;
  for (std::size_t first = 0; first < end; first += kKvPageTokens) {
    const std::byte* page = kv.pages[first / kKvPageTokens];
    const LatentRows<T> rows{reinterpret_cast<const T*>(page + kv.keys_offset_bytes),
                             reinterpret_cast<const T*>(page + kv.values_offset_bytes),
                             reinterpret_cast<const float*>(page + kv.key_scales_offset_bytes),
                             reinterpret_cast<const float*>(page + kv.value_scales_offset_bytes),
                             kv.stride,
                             kv.value_stride};
    const std::size_t positions = end - first < kKvPageTokens ? end - first : kKvPageTokens;
    // The first queries prefetch the next page, which the others then find in the cache as well.
    const T* next = nullptr;
    if (first + kKvPageTokens < end)
      next = reinterpret_cast<const T*>(kv.pages[first / kKvPageTokens + 1] + kv.keys_offset_bytes);
    std::size_t q = 0;
    for (; q + 4 <= count; q += 4, next = nullptr)
      take_page<4>(queries + q * query_stride, rows, positions, next, states + q, out + q * out_stride,
                   out_stride);
    for (; q < count; ++q, next = nullptr)
      take_page<1>(queries + q * query_stride, rows, positions, next, states + q, out + q * out_stride,
                   out_stride);
  }
  for (std::size_t q = 0; q < count; ++q) {
    float* const result = out + q * out_stride;
    const Float16 inverse = broadcast(1.0f / states[q].denominator);
    for (std::size_t i = 0; i < kv.stride; i += 16) store(result + i, load(result + i) * inverse);
  }
}

void attend_latents(const float* queries, std::size_t count, const KeyValueView& kv, std::size_t end,
                    float* out, std::size_t out_stride) {
  switch (kv.element) {
    case KvElement::f32: return attend_latents_to<float>(queries, count, kv, end, out, out_stride);
    case KvElement::bf16: return attend_latents_to<std::uint16_t>(queries, count, kv, end, out, out_stride);
    case KvElement::s8: return attend_latents_to<std::int8_t>(queries, count, kv, end, out, out_stride);
  }
}
