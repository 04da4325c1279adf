// The loops over chunks, panels and rows that the integer products of all instruction sets share. Each kernel
// file includes this once, after float_kernels-inl.h and prefetch.h, inside its unnamed namespace.
//
// The kernel file must define before:
//
//   unpack_q6_to_s8, unpack_q4_to_s8: as kernels.h says of unpack_q6 and unpack_q4
//   kManyRowsQ8, kManyRowsQ6, kManyRowsQ4: the least number of rows for which a block of weights is unpacked
//     once for all rows
//   q8_sums(weights, groups, codes, chunk_sum): Sums of one row and `groups` q8 groups
//   q6_sums, q4_sums(panel, first_group, groups, codes, group_sums, group_stride):
//     the same from packed weights
//   q4_rows_sums<n>(panel, first_group, groups, codes, codes_stride, group_sums, group_stride, sums):
//     q4_sums of two to four neighbouring rows
//   mx4_sums, kMx4Rows, Mx4Block: see mx4_products-inl.h
//   Q8Block, Q6Block, Q4Block: a panel's weights for a block of inputs, unpacked for many rows:
//     kGroupBytes        bytes of a group in the panel's codes
//     kCols              a block is as many whole chunks of one width as fit into so many inputs, one at
//                        least; kChunkColsMin where multiply() takes a single chunk
//     kRows              rows that are multiplied at once
//     load(panel, first_group, groups)
//     multiply<n>(rows, out, out_stride): out[r][64] = fma(float(sum), scale, out[r][64]) for n rows, chunk
//                        after chunk
//
// A group is 16 inputs of all 64 outputs: a quarter of a tile, and the planes of a panel are a row of groups.
//
// Few rows use packed weights straight from memory, whose rate is the limit then. Many rows unpack a block
// once, into the L1 cache, and use it for all rows. Integer sums are exact and the float steps have one
// order, so both ways give the same bits (docs/decisions/0011-own-prefill-kernels.md).

/// Neighbouring chunks of one width.
struct Chunks {
  std::size_t first;
  std::size_t count;
  std::size_t cols;  // of each
  std::size_t first_group;
  const std::int8_t* codes;  // [chunk][row][cols]

  [[nodiscard]] std::size_t groups() const { return count * cols / 16; }
};

// Calls `visit` for all activations in blocks of whole chunks: at most `block_cols` inputs, or one chunk.
template <typename F>
inline void for_each_block(const QuantizedView& x, std::size_t block_cols, F visit) {
  const std::size_t whole = x.cols / x.chunk_cols;
  const std::size_t step = block_cols > x.chunk_cols ? block_cols / x.chunk_cols : 1;
  for (std::size_t first = 0; first < whole; first += step) {
    const std::size_t count = whole - first < step ? whole - first : step;
    const std::size_t col = first * x.chunk_cols;
    visit(Chunks{first, count, x.chunk_cols, col / 16, x.codes + col * x.rows});
  }
  const std::size_t col = whole * x.chunk_cols;  // the last chunk may be narrower
  if (col < x.cols) visit(Chunks{whole, 1, x.cols - col, col / 16, x.codes + col * x.rows});
}

inline ChunkRows rows_from(const QuantizedView& x, const Chunks& chunks, std::size_t row) {
  return {.codes = chunks.codes + row * chunks.cols,
          .chunk_sums = x.chunk_sums + chunks.first * x.rows + row,
          .scales = x.scales + chunks.first * x.rows + row,
          .chunks = chunks.count,
          .chunk_rows = x.rows,
          .cols = chunks.cols};
}

// The last rows, fewer than are multiplied at once. The recursion turns the number of rows into a template
// parameter, so that their sums stay in registers.
template <int kRows, typename Block>
inline void multiply_rest(const Block& block, std::size_t count, const ChunkRows& rows, float* out,
                          std::size_t out_stride) {
  if constexpr (kRows > 0) {
    if (count == kRows) return block.template multiply<kRows>(rows, out, out_stride);
    multiply_rest<kRows - 1>(block, count, rows, out, out_stride);
  }
}

template <typename Block>
inline void multiply_block(const Block& block, const QuantizedView& x, const Chunks& chunks, float* out,
                           std::size_t out_stride, Ahead ahead) {
  constexpr std::size_t kRows = Block::kRows;
  const std::size_t steps = (x.rows + kRows - 1) / kRows;
  // The prefetches of the next block are spread evenly over the steps of this one, in whole cache lines.
  const std::size_t step_bytes = (static_cast<std::size_t>(ahead.end - ahead.next) / steps + 63) / 64 * 64;
  std::size_t row = 0;
  for (; row + kRows <= x.rows; row += kRows) {
    ahead.prefetch_some(step_bytes);
    block.template multiply<Block::kRows>(rows_from(x, chunks, row), out + row * out_stride, out_stride);
  }
  ahead.prefetch_some(step_bytes);
  multiply_rest<Block::kRows - 1>(block, x.rows - row, rows_from(x, chunks, row), out + row * out_stride,
                                  out_stride);
}

/// The codes that are loaded after a block of panel `p`: the same block of the next panel, or the next block
/// of the first panel.
template <typename Block>
inline Ahead codes_after(const PanelView* panels, std::size_t count, std::size_t p, const Chunks& chunks,
                         std::size_t groups_total) {
  const bool last = p + 1 == count;
  const std::size_t first = chunks.first_group + (last ? chunks.groups() : 0);
  const std::size_t left = groups_total - first;
  const std::byte* codes = panels[last ? 0 : p + 1].codes + first * Block::kGroupBytes;
  return {codes, codes + (left < chunks.groups() ? left : chunks.groups()) * Block::kGroupBytes};
}

// Blocks add to `out`, so it starts with zeros.
inline void clear(std::size_t rows, std::size_t panels, float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t n = 0; n < panels * 64; n += 16) store(out + r * out_stride + n, zero());
}

inline void apply_row_scales(const PanelView* panels, std::size_t count, std::size_t rows, float* out,
                             std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t p = 0; p < count; ++p) multiply(panels[p].row_scales, 64, out + r * out_stride + p * 64);
}

// Many rows: block after block, so that a block's activations stay in the caches for all the panels, and a
// panel's block for all the rows.
template <typename Block>
inline void multiply_many(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                          std::size_t out_stride) {
  clear(x.rows, count, out, out_stride);
  Block block;
  for_each_block(x, Block::kCols, [&](const Chunks& chunks) {
    for (std::size_t p = 0; p < count; ++p) {
      block.load(panels[p], chunks.first_group, chunks.groups());
      multiply_block(block, x, chunks, out + p * 64, out_stride,
                     codes_after<Block>(panels, count, p, chunks, x.cols / 16));
    }
  });
  apply_row_scales(panels, count, x.rows, out, out_stride);
}

// Multiplies a few rows with a panel's packed weights, which are read once: all rows use a chunk before the
// next one is read. sums_of(chunk, row) gives Sums.
template <std::size_t kRows, typename F>
inline void multiply_rows(const QuantizedView& x, const float* row_scales, float* out, std::size_t out_stride,
                          F sums_of) {
  Totals totals[kRows] = {};
  for_each_block(x, x.chunk_cols, [&](const Chunks& chunk) {
    const float* scales = x.scales + chunk.first * kRows;
    if constexpr (requires(Sums * sums) { sums_of.template all<kRows>(chunk, sums); }) {
      Sums sums[kRows];
      sums_of.template all<kRows>(chunk, sums);
      for (std::size_t r = 0; r < kRows; ++r) accumulate(sums[r], scales[r], totals[r]);
    } else {
      for (std::size_t r = 0; r < kRows; ++r) accumulate(sums_of(chunk, r), scales[r], totals[r]);
    }
  });
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t i = 0; i < 4; ++i)
      store(out + r * out_stride + i * 16, totals[r].part[i] * load(row_scales + i * 16));
}

template <std::size_t kRows, typename F>
inline void multiply_few(const QuantizedView& x, const float* row_scales, float* out, std::size_t out_stride,
                         F sums_of) {
  if constexpr (kRows > 0) {
    if (x.rows == kRows) return multiply_rows<kRows>(x, row_scales, out, out_stride, sums_of);
    multiply_few<kRows - 1>(x, row_scales, out, out_stride, sums_of);
  }
}

void multiply_q8(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                 std::size_t out_stride) {
  if (x.rows >= kManyRowsQ8) return multiply_many<Q8Block>(panels, count, x, out, out_stride);
  for (std::size_t p = 0; p < count; ++p) {
    const auto* weights = reinterpret_cast<const std::int8_t*>(panels[p].codes);
    multiply_few<kManyRowsQ8 - 1>(
        x, panels[p].row_scales, out + p * 64, out_stride, [&](const Chunks& chunk, std::size_t r) {
          return q8_sums(weights + chunk.first_group * kQ8GroupBytes, chunk.groups(),
                         chunk.codes + r * chunk.cols, x.chunk_sums[chunk.first * x.rows + r]);
        });
  }
}

void multiply_q6(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                 std::size_t out_stride) {
  if (x.rows >= kManyRowsQ6) return multiply_many<Q6Block>(panels, count, x, out, out_stride);
  for (std::size_t p = 0; p < count; ++p) {
    multiply_few<kManyRowsQ6 - 1>(
        x, panels[p].row_scales, out + p * 64, out_stride, [&](const Chunks& chunk, std::size_t r) {
          return q6_sums(panels[p], chunk.first_group, chunk.groups(), chunk.codes + r * chunk.cols,
                         x.group_sums + chunk.first_group * x.rows + r, x.rows);
        });
  }
}

// A class instead of a lambda, since `all` tells multiply_rows() that rows of q4 are multiplied together.
struct Q4Sums {
  const PanelView& panel;
  const QuantizedView& x;

  // Up to four rows at a time.
  template <std::size_t kRows>
  void all(const Chunks& chunk, Sums* sums, std::size_t first_row = 0) const {
    constexpr std::size_t kNow = kRows < 4 ? kRows : 4;
    const std::int8_t* codes = chunk.codes + first_row * chunk.cols;
    const std::int32_t* group_sums = x.group_sums + chunk.first_group * x.rows + first_row;
    if constexpr (kNow == 1) {
      sums[0] = q4_sums(panel, chunk.first_group, chunk.groups(), codes, group_sums, x.rows);
    } else {
      q4_rows_sums<kNow>(panel, chunk.first_group, chunk.groups(), codes, chunk.cols, group_sums, x.rows,
                         sums);
    }
    if constexpr (kRows > kNow) all<kRows - kNow>(chunk, sums + kNow, first_row + kNow);
  }
};

void multiply_q4(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                 std::size_t out_stride) {
  if (x.rows >= kManyRowsQ4) return multiply_many<Q4Block>(panels, count, x, out, out_stride);
  for (std::size_t p = 0; p < count; ++p)
    multiply_few<kManyRowsQ4 - 1>(x, panels[p].row_scales, out + p * 64, out_stride, Q4Sums{panels[p], x});
}

#include "runtime/kernels/mx4_products-inl.h"

inline IntPart load_part(const std::int32_t* p) {
  IntPart part;
  __builtin_memcpy(&part, p, sizeof(part));
  return part;
}

// The same conversion and fma as accumulate(), so that products through oneDNN have the same bits.
void add_sums(const std::int32_t* sums, const std::int32_t* weight_sums, float scale, std::size_t n,
              float* total) {
  const Float16 s = broadcast(scale);
  for (std::size_t i = 0; i < n; i += 16) {
    Float16 exact;
    for (std::size_t p = 0; p < kParts; ++p) {
      const std::size_t lane = i + p * kPartLanes;
      exact.part[p] =
          __builtin_convertvector(load_part(sums + lane) - (load_part(weight_sums + lane) << 7), FloatPart);
    }
    store(total + i, fma(exact, s, load(total + i)));
  }
}

const Kernels kTable = {
    .name = kName,
    .multiply_q8 = multiply_q8,
    .multiply_q6 = multiply_q6,
    .multiply_q4 = multiply_q4,
    .multiply_mx4 = multiply_mx4,
    .multiply_bf16 = multiply_bf16,
    .widen_bf16 = widen_bf16,
    .unpack_q6 = unpack_q6_to_s8,
    .unpack_q4 = unpack_q4_to_s8,
    .add_sums = add_sums,
    .peak_q8 = peak_q8,
    .peak_q4 = peak_q4,
    .quantize_chunk = quantize_chunk,
    .rms_norm = rms_norm,
    .dots = dots,
    .activate = activate,
    .soft_cap = soft_cap,
    .sigmoid = sigmoid,
    .add_scaled = add_scaled,
    .add = add,
    .multiply = multiply,
    .exp_sum = exp_sum,
    .attend = attend,
    .attend_latents = attend_latents,
    .convolve = convolve,
    .delta_rule = delta_rule,
    .to_bf16 = to_bf16,
};
