// Products of bf16 weights and f32 activations. Each kernel file includes this once, after
// float_kernels-inl.h and prefetch.h, inside its unnamed namespace.
//
// A bf16 weight becomes an f32 by moving it to the upper half of 32 bits, so weights are widened in registers
// and nothing is rounded. Every output adds its inputs in their order with one fused multiply-add each, so a
// row has the same bits alone and together with others, on every instruction set.
//
// All rows meet a panel's weights block by block, 64 inputs at a time. Few rows widen the weights where they
// use them, since storing widened weights would take longer than reading them from memory. Many rows widen a
// block once, into the L1 cache.

constexpr std::size_t kBf16PairBytes = 256;  // 64 outputs x 2 neighbouring inputs x 2 bytes
constexpr std::size_t kBf16BlockCols = 64;   // inputs of a block
constexpr std::size_t kBf16BlockBytes = kBf16BlockCols / 2 * kBf16PairBytes;
constexpr std::size_t kBf16RowsAtOnce = 6;  // rows that share the loads of weights
constexpr std::size_t kManyRowsBf16 =
    kPartLanes == 16 ? 25 : 13;  // from so many rows on, blocks are widened first

/// Registers of weights that meet kRows rows at once, so that all sums stay in registers.
template <std::size_t kRows>
constexpr std::size_t bf16_step_parts() {
  // Sums and weights of a step must fit into the registers: with AVX2 6 rows x 2 or 3 x 4 are 12 of 16.
  if (kPartLanes != 8) return 4;  // AVX-512 has 32 registers; the plain kernels have few either way
  return kRows == 1 ? 8 : (kRows <= 3 ? 4 : 2);
}

/// Loads or stores sums of kRows rows and some neighbouring outputs. Sums are plain registers, and all loops
/// are unrolled, since GCC would keep them in memory otherwise.
template <std::size_t kRows, std::size_t kStepParts>
inline void load_sums(const float* out, std::size_t out_stride, FloatPart (&total)[kRows][kStepParts]) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kStepParts; ++i)
      __builtin_memcpy(&total[r][i], out + r * out_stride + i * kPartLanes, sizeof(FloatPart));
}

template <std::size_t kRows, std::size_t kStepParts>
inline void store_sums(const FloatPart (&total)[kRows][kStepParts], float* out, std::size_t out_stride) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kStepParts; ++i)
      __builtin_memcpy(out + r * out_stride + i * kPartLanes, &total[r][i], sizeof(FloatPart));
}

/// total[r][i] = fma(weights[i], x[r], total[r][i]) for one input.
template <std::size_t kRows, std::size_t kStepParts>
inline void add_input(FloatPart (&weights)[kStepParts], const float* x, std::size_t x_stride,
                      FloatPart (&total)[kRows][kStepParts]) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
    // Broadcast: x - 0 is x.
    const FloatPart factor = x[r * x_stride] - FloatPart{};
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kStepParts; ++i) {
      total[r][i] = fma_part(weights[i], factor, total[r][i]);
      pin_to_register(total[r][i]);
    }
  }
}

/// out[r][..] += x[r] . weights for `cols` inputs and as many outputs as bf16_step_parts() says, straight
/// from the codes, while later codes are prefetched. A 32-bit lane holds two neighbouring inputs of one
/// output, the even one in the lower half: a shift or a mask makes either of them an f32.
template <std::size_t kRows>
[[gnu::noinline]] void add_packed(const std::byte* codes, std::size_t cols, const float* x,
                                  std::size_t x_stride, float* out, std::size_t out_stride) {
  constexpr std::size_t kStepParts = bf16_step_parts<kRows>();
  FloatPart total[kRows][kStepParts];
  load_sums(out, out_stride, total);
  for (const float* const end = x + cols; x < end; x += 2, codes += kBf16PairBytes) {
    prefetch<kStepParts * sizeof(FloatPart)>(codes);
    FloatPart even[kStepParts];
    FloatPart odd[kStepParts];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kStepParts; ++i) {
      IntPart both;
      __builtin_memcpy(&both, codes + i * sizeof(both), sizeof(both));
      even[i] = reinterpret_cast<FloatPart>(both << 16);
    }
    add_input(even, x, x_stride, total);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kStepParts; ++i) {
      IntPart both;
      __builtin_memcpy(&both, codes + i * sizeof(both), sizeof(both));
      odd[i] = reinterpret_cast<FloatPart>(both & static_cast<std::int32_t>(0xFFFF0000u));
    }
    add_input(odd, x + 1, x_stride, total);
  }
  store_sums(total, out, out_stride);
}

/// Like add_packed(), but from widened weights [input][64] of one block.
template <std::size_t kRows>
[[gnu::noinline]] void add_widened(const float* weights, const float* x, std::size_t x_stride, float* out,
                                   std::size_t out_stride) {
  constexpr std::size_t kStepParts = bf16_step_parts<kRows>();
  FloatPart total[kRows][kStepParts];
  load_sums(out, out_stride, total);
  for (const float* const end = x + kBf16BlockCols; x < end; ++x, weights += 64) {
    FloatPart part[kStepParts];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kStepParts; ++i) {
      __builtin_memcpy(&part[i], weights + i * kPartLanes, sizeof(FloatPart));
      pin_to_register(part[i]);
    }
    add_input(part, x, x_stride, total);
  }
  store_sums(total, out, out_stride);
}

/// A panel's weights of some inputs, as they lie in the container.
struct PackedBlock {
  const std::byte* codes;
  std::size_t cols;

  template <std::size_t kRows>
  void multiply(const float* x, std::size_t x_stride, float* out, std::size_t out_stride) const {
    constexpr std::size_t kStep = bf16_step_parts<kRows>() * kPartLanes;
    for (std::size_t n = 0; n < 64; n += kStep)
      add_packed<kRows>(codes + n * 4, cols, x, x_stride, out + n, out_stride);
  }
};

/// `cols` inputs of all 64 outputs of a panel as f32, out[input][out_stride].
inline void widen(const std::byte* codes, std::size_t cols, float* out, std::size_t out_stride) {
  for (std::size_t col = 0; col < cols; col += 2, codes += kBf16PairBytes) {
    for (std::size_t n = 0; n < 64; n += kPartLanes) {
      IntPart both;
      __builtin_memcpy(&both, codes + n * 4, sizeof(both));
      const IntPart even = both << 16;
      const IntPart odd = both & static_cast<std::int32_t>(0xFFFF0000u);
      __builtin_memcpy(out + col * out_stride + n, &even, sizeof(even));
      __builtin_memcpy(out + (col + 1) * out_stride + n, &odd, sizeof(odd));
    }
  }
}

void widen_bf16(const PanelView& panel, std::size_t first_col, std::size_t cols, float* out,
                std::size_t out_stride) {
  widen(panel.codes + first_col / 2 * kBf16PairBytes, cols, out, out_stride);
}

/// A panel's weights of one block of inputs, widened: 16 KiB, which stay in the L1 cache.
struct WidenedBlock {
  template <std::size_t kRows>
  void multiply(const float* x, std::size_t x_stride, float* out, std::size_t out_stride) const {
    constexpr std::size_t kStep = bf16_step_parts<kRows>() * kPartLanes;
    for (std::size_t n = 0; n < 64; n += kStep)
      add_widened<kRows>(weights + n, x, x_stride, out + n, out_stride);
  }

  alignas(64) float weights[kBf16BlockCols * 64];
};

/// The last rows, fewer than are multiplied at once.
template <std::size_t kRows, typename Block>
inline void multiply_bf16_rest(const Block& block, std::size_t rows, const float* x, std::size_t x_stride,
                               float* out, std::size_t out_stride) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return block.template multiply<kRows>(x, x_stride, out, out_stride);
    multiply_bf16_rest<kRows - 1>(block, rows, x, x_stride, out, out_stride);
  }
}

/// Multiplies all rows with one block, while the codes that are needed next are prefetched.
template <typename Block>
inline void multiply_bf16_block(const Block& block, const float* x, std::size_t rows, std::size_t x_stride,
                                float* out, std::size_t out_stride, Ahead ahead) {
  constexpr std::size_t kRows = kBf16RowsAtOnce;
  const std::size_t steps = (rows + kRows - 1) / kRows;
  const std::size_t step_bytes = (static_cast<std::size_t>(ahead.end - ahead.next) / steps + 63) / 64 * 64;
  for (; rows >= kRows; rows -= kRows, x += kRows * x_stride, out += kRows * out_stride) {
    ahead.prefetch_some(step_bytes);
    block.template multiply<kRows>(x, x_stride, out, out_stride);
  }
  ahead.prefetch_some(step_bytes);
  multiply_bf16_rest<kRows - 1>(block, rows, x, x_stride, out, out_stride);
}

/// Whether all outputs of so many rows are added up at once, so that weights are read once.
inline bool in_one_pass(std::size_t rows) { return kPartLanes == 16 ? rows <= kBf16RowsAtOnce : rows == 1; }

// Few rows: panel after panel, so that weights are read in the order in which they lie in memory. Rows that
// need more than one pass go block by block, so that the later passes find the weights in the L1 cache.
inline void multiply_bf16_few(const PanelView* panels, std::size_t count, const float* x, std::size_t rows,
                              std::size_t x_stride, float* out, std::size_t out_stride) {
  const std::size_t blocks = in_one_pass(rows) ? 1 : panels[0].tiles;
  const std::size_t cols = panels[0].tiles * kBf16BlockCols / blocks;
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t b = 0; b < blocks; ++b)
      multiply_bf16_block(PackedBlock{panels[p].codes + b * kBf16BlockBytes, cols}, x + b * cols, rows,
                          x_stride, out + p * 64, out_stride, {});
}

// Many rows: block after block, so that a block's activations stay in the caches for all the panels, and a
// panel's block for all the rows.
inline void multiply_bf16_many(const PanelView* panels, std::size_t count, const float* x, std::size_t rows,
                               std::size_t x_stride, float* out, std::size_t out_stride) {
  WidenedBlock block;
  const std::size_t blocks = panels[0].tiles;
  for (std::size_t b = 0; b < blocks; ++b) {
    for (std::size_t p = 0; p < count; ++p) {
      const bool last = p + 1 == count;
      Ahead ahead{};
      if (!last || b + 1 < blocks) {
        ahead.next = panels[last ? 0 : p + 1].codes + (last ? b + 1 : b) * kBf16BlockBytes;
        ahead.end = ahead.next + kBf16BlockBytes;
      }
      widen(panels[p].codes + b * kBf16BlockBytes, kBf16BlockCols, block.weights, 64);
      multiply_bf16_block(block, x + b * kBf16BlockCols, rows, x_stride, out + p * 64, out_stride, ahead);
    }
  }
}

void multiply_bf16(const PanelView* panels, std::size_t count, const float* x, std::size_t rows,
                   std::size_t x_stride, float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t n = 0; n < count * 64; n += 16) store(out + r * out_stride + n, zero());
  if (rows >= kManyRowsBf16) return multiply_bf16_many(panels, count, x, rows, x_stride, out, out_stride);
  multiply_bf16_few(panels, count, x, rows, x_stride, out, out_stride);
}
