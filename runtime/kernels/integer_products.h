// What the integer products of all instruction sets share: the walk over chunks, panels and rows. Included
// once by each kernel file, after float_kernels.h, inside its unnamed namespace.
//
// The file must have defined, before:
//
//   q8_sums(weights, groups, codes, chunk_sum, sums):
//     sums[64] of one row and `groups` q8 groups
//   q4_sums(panel, first_group, groups, codes, group_sums, group_stride, sums):
//     the same straight from nibbles
//   Q8Chunk, Q4Chunk: a panel's weights for one chunk of inputs, made ready to meet many rows:
//     kRows              rows that are multiplied at once
//     load(panel, first_group, groups)
//     multiply<n>(rows, out, out_stride): out[r][64] = fma(float(sum), scale, out[r][64]) for n rows
//
// A group is 16 inputs of all 64 outputs: a quarter of a tile, and the planes of a panel are a row of groups.

struct Chunk {
  std::size_t index;
  std::size_t first_group;
  std::size_t groups;
  std::size_t cols;
  const std::int8_t* codes;  // [row][cols]
};

// Calls `visit` for every chunk of the activations.
template <typename F>
inline void for_each_chunk(const QuantizedView& x, F visit) {
  for (std::size_t first = 0; first < x.cols; first += x.chunk_cols) {
    const std::size_t cols = x.cols - first < x.chunk_cols ? x.cols - first : x.chunk_cols;
    visit(Chunk{first / x.chunk_cols, first / 16, cols / 16, cols, x.codes + first * x.rows});
  }
}

inline ChunkRows rows_from(const QuantizedView& x, const Chunk& chunk, std::size_t row) {
  return {chunk.codes + row * chunk.cols, chunk.cols, x.chunk_sums + chunk.index * x.rows + row,
          x.scales + chunk.index * x.rows + row};
}

// The last rows, fewer than are multiplied at once.
template <int kRows, typename Weights>
inline void multiply_rest(const Weights& weights, std::size_t count, const ChunkRows& rows, float* out,
                          std::size_t out_stride) {
  if constexpr (kRows > 0) {
    if (count == kRows) return weights.template multiply<kRows>(rows, out, out_stride);
    multiply_rest<kRows - 1>(weights, count, rows, out, out_stride);
  }
}

template <typename Weights>
inline void multiply_chunk(const Weights& weights, const QuantizedView& x, const Chunk& chunk, float* out,
                           std::size_t out_stride) {
  constexpr std::size_t kRows = Weights::kRows;
  std::size_t row = 0;
  for (; row + kRows <= x.rows; row += kRows)
    weights.template multiply<Weights::kRows>(rows_from(x, chunk, row), out + row * out_stride, out_stride);
  multiply_rest<Weights::kRows - 1>(weights, x.rows - row, rows_from(x, chunk, row), out + row * out_stride,
                                    out_stride);
}

// Many rows: chunk after chunk, so that a chunk's activations stay in the caches for all the panels, and a
// panel's chunk for all the rows.
template <typename Weights>
inline void multiply_many(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                          std::size_t out_stride) {
  Weights weights;
  for_each_chunk(x, [&](const Chunk& chunk) {
    for (std::size_t p = 0; p < count; ++p) {
      weights.load(panels[p], chunk.first_group, chunk.groups);
      multiply_chunk(weights, x, chunk, out + p * 64, out_stride);
    }
  });
}

// A row against a panel straight from its bytes, which are read once.
// sums_of(chunk, row, sums): the chunk's integers.
template <typename F>
inline void multiply_few(const QuantizedView& x, float* out, std::size_t out_stride, F sums_of) {
  alignas(64) std::int32_t sums[64];
  for_each_chunk(x, [&](const Chunk& chunk) {
    for (std::size_t r = 0; r < x.rows; ++r) {
      sums_of(chunk, r, sums);
      accumulate(sums, x.scales[chunk.index * x.rows + r], out + r * out_stride, 64);
    }
  });
}

inline void clear(std::size_t rows, std::size_t panels, float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t n = 0; n < panels * 64; n += 16) store(out + r * out_stride + n, zero());
}

inline void apply_row_scales(const PanelView* panels, std::size_t count, std::size_t rows, float* out,
                             std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t p = 0; p < count; ++p) multiply(panels[p].row_scales, 64, out + r * out_stride + p * 64);
}

void multiply_q8(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                 std::size_t out_stride) {
  clear(x.rows, count, out, out_stride);
  if (x.rows >= kManyRowsQ8) {
    multiply_many<Q8Chunk>(panels, count, x, out, out_stride);
  } else {
    for (std::size_t p = 0; p < count; ++p) {
      const auto* weights = reinterpret_cast<const std::int8_t*>(panels[p].codes);
      multiply_few(x, out + p * 64, out_stride, [&](const Chunk& chunk, std::size_t r, std::int32_t* sums) {
        q8_sums(weights + chunk.first_group * 1024, chunk.groups, chunk.codes + r * chunk.cols,
                x.chunk_sums[chunk.index * x.rows + r], sums);
      });
    }
  }
  apply_row_scales(panels, count, x.rows, out, out_stride);
}

void multiply_q4(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                 std::size_t out_stride) {
  clear(x.rows, count, out, out_stride);
  if (x.rows >= kManyRowsQ4) {
    multiply_many<Q4Chunk>(panels, count, x, out, out_stride);
  } else {
    for (std::size_t p = 0; p < count; ++p) {
      multiply_few(x, out + p * 64, out_stride, [&](const Chunk& chunk, std::size_t r, std::int32_t* sums) {
        q4_sums(panels[p], chunk.first_group, chunk.groups, chunk.codes + r * chunk.cols,
                x.group_sums + chunk.first_group * x.rows + r, x.rows, sums);
      });
    }
  }
  apply_row_scales(panels, count, x.rows, out, out_stride);
}

const Kernels kTable = {
    .name = kName,
    .multiply_q8 = multiply_q8,
    .multiply_q4 = multiply_q4,
    .multiply_bf16 = multiply_bf16,
    .peak_q8 = peak_q8,
    .peak_q4 = peak_q4,
    .quantize_chunk = quantize_chunk,
    .rms_norm = rms_norm,
    .dot = dot,
    .silu_multiply = silu_multiply,
    .add_scaled = add_scaled,
    .add = add,
    .multiply = multiply,
    .exp_sum = exp_sum,
    .attend = attend,
    .to_bf16 = to_bf16,
};
