// Kernels of the recurrent mixers over the sixteen lanes of simd-inl.h: causal convolutions and the gated
// delta rule. Each kernel file includes this once, after float_kernels-inl.h, inside its unnamed namespace.
// kernels.h says what each function computes.

void convolve(const float* const* inputs, const float* weights, std::size_t taps, std::size_t n, bool silu,
              float* out) {
  const Float16 one = broadcast(1.0f);
  for (std::size_t i = 0; i < n; i += 16) {
    Float16 total = zero();
    for (std::size_t tap = 0; tap < taps; ++tap)
      total = fma(load(weights + tap * n + i), load(inputs[tap] + i), total);
    if (silu) total = total / (one + exp(zero() - total));
    store(out + i, total);
  }
}

/// The columns [0, 16 x kColumns) of a head's state and of its values and results, for all tokens. Columns do
/// not depend on one another, so a block of them stays in the L1 cache while the tokens pass.
template <std::size_t kColumns>
void delta_columns(const DeltaTokens& tokens, const float* key_queries, const float* values,
                   const float* from, float* to, float* out) {
  const std::size_t stride = tokens.value_stride;
  for (std::size_t t = 0; t < tokens.count; ++t) {
    const float* const key = tokens.keys + t * tokens.key_stride;
    const float* const query = tokens.queries + t * tokens.key_stride;
    Float16 answer[kColumns];  // of the state to the key, and to the query
    Float16 result[kColumns];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kColumns; ++c) answer[c] = result[c] = zero();
    for (std::size_t i = 0; i < tokens.key_dim; ++i) {
      const Float16 k = broadcast(key[i]);
      const Float16 q = broadcast(query[i]);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kColumns; ++c) {
        const Float16 state = load(from + i * stride + c * 16);
        answer[c] = fma(k, state, answer[c]);
        result[c] = fma(q, state, result[c]);
      }
    }
    const Float16 decay = broadcast(tokens.decays[t]);
    const Float16 beta = broadcast(tokens.betas[t]);
    const Float16 key_query = broadcast(key_queries[t]);
    Float16 change[kColumns];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kColumns; ++c) {
      change[c] = fma(zero() - decay, answer[c], load(values + t * stride + c * 16)) * beta;
      store(out + t * stride + c * 16, fma(key_query, change[c], decay * result[c]));
    }
    for (std::size_t i = 0; i < tokens.key_dim; ++i) {
      const Float16 k = broadcast(key[i]);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kColumns; ++c)
        store(to + i * stride + c * 16, fma(k, change[c], decay * load(from + i * stride + c * 16)));
    }
    from = to;
  }
}

void delta_rule(const DeltaTokens& tokens, const float* from, float* to, float* out) {
  // Blocks of 64 columns where a register has 16 lanes, of 32 where it has 8: sums for key and query, which
  // wait for their last addition, have registers of their own.
  constexpr std::size_t kColumns = kParts == 1 ? 4 : kParts == 2 ? 2 : 1;
  alignas(64) float key_queries[kDeltaTokens];
  for (std::size_t t = 0; t < tokens.count; ++t) {
    Float16 total = zero();
    for (std::size_t i = 0; i < tokens.key_stride; i += 16)
      total = fma(load(tokens.keys + t * tokens.key_stride + i),
                  load(tokens.queries + t * tokens.key_stride + i), total);
    key_queries[t] = sum_of(total);
  }
  std::size_t c = 0;
  for (; c + kColumns * 16 <= tokens.value_stride; c += kColumns * 16)
    delta_columns<kColumns>(tokens, key_queries, tokens.values + c, from + c, to + c, out + c);
  for (; c < tokens.value_stride; c += 16)
    delta_columns<1>(tokens, key_queries, tokens.values + c, from + c, to + c, out + c);
}
