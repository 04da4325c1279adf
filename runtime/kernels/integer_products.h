// What the integer products of all instruction sets share: the walk over chunks and rows. Included once by
// each kernel file, after float_kernels.h, inside its unnamed namespace.
//
// The file must have defined, before:
//   q8_sums<kRows>(tiles, count, codes, row_stride, chunk_sums, sums): sums[r][64] of `count` q8 tiles
//   q4_sums(panel, first_tile, count, codes, group_sums, group_stride, sums): sums[64] straight from nibbles
//   unpack_q4 as in kernels.h

constexpr std::size_t kUnpackTilesMax = 8;  // chunks are at most 8 x 64 inputs wide
constexpr std::size_t kUnpackRowsMin = 4;   // from here on it pays to unpack a chunk before it is multiplied
alignas(64) constexpr std::int32_t kNoBias[64] = {};

struct Chunk {
  std::size_t index;
  std::size_t first_tile;
  std::size_t tiles;
  std::size_t cols;
  const std::int8_t* codes;  // [row][cols]
};

// Calls `visit` for every chunk of the activations.
template <typename F>
inline void for_each_chunk(const QuantizedView& x, F visit) {
  for (std::size_t first = 0; first < x.cols; first += x.chunk_cols) {
    const std::size_t cols = x.cols - first < x.chunk_cols ? x.cols - first : x.chunk_cols;
    visit(Chunk{first / x.chunk_cols, first / 64, cols / 64, cols, x.codes + first * x.rows});
  }
}

inline void clear_rows(float* out, std::size_t rows, std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t n = 0; n < 64; n += 16) store(out + r * out_stride + n, zero());
}

inline void scale_rows(const float* row_scales, float* out, std::size_t rows, std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r) multiply(row_scales, 64, out + r * out_stride);
}

// All rows against one chunk's q8 tiles, four at a time.
inline void multiply_chunk(const std::int8_t* tiles, const Chunk& chunk, const QuantizedView& x, float* out,
                           std::size_t out_stride) {
  alignas(64) std::int32_t sums[4 * 64];
  const std::int32_t* chunk_sums = x.chunk_sums + chunk.index * x.rows;
  const float* scales = x.scales + chunk.index * x.rows;
  for (std::size_t r = 0; r < x.rows;) {
    const std::size_t count = x.rows - r >= 4 ? 4 : 1;
    const std::int8_t* codes = chunk.codes + r * chunk.cols;
    if (count == 4) {
      q8_sums<4>(tiles, chunk.tiles, codes, chunk.cols, chunk_sums + r, sums);
    } else {
      q8_sums<1>(tiles, chunk.tiles, codes, chunk.cols, chunk_sums + r, sums);
    }
    for (std::size_t i = 0; i < count; ++i, ++r)
      accumulate(sums + i * 64, kNoBias, scales[r], out + r * out_stride, 64);
  }
}

void multiply_q8(const PanelView& panel, const QuantizedView& x, float* out, std::size_t out_stride) {
  clear_rows(out, x.rows, out_stride);
  const auto* tiles = reinterpret_cast<const std::int8_t*>(panel.codes);
  for_each_chunk(x, [&](const Chunk& chunk) {
    multiply_chunk(tiles + chunk.first_tile * 4096, chunk, x, out, out_stride);
  });
  scale_rows(panel.row_scales, out, x.rows, out_stride);
}

void multiply_q4(const PanelView& panel, const QuantizedView& x, float* out, std::size_t out_stride) {
  clear_rows(out, x.rows, out_stride);
  alignas(64) std::int8_t unpacked[kUnpackTilesMax * 4096];
  alignas(64) std::int32_t sums[64];
  for_each_chunk(x, [&](const Chunk& chunk) {
    if (x.rows >= kUnpackRowsMin) {
      unpack_q4(panel, chunk.first_tile, chunk.tiles, unpacked);
      multiply_chunk(unpacked, chunk, x, out, out_stride);
      return;
    }
    for (std::size_t r = 0; r < x.rows; ++r) {
      q4_sums(panel, chunk.first_tile, chunk.tiles, chunk.codes + r * chunk.cols,
              x.group_sums + chunk.first_tile * 4 * x.rows + r, x.rows, sums);
      accumulate(sums, kNoBias, x.scales[chunk.index * x.rows + r], out + r * out_stride, 64);
    }
  });
  scale_rows(panel.row_scales, out, x.rows, out_stride);
}

const Kernels kTable = {
    .name = kName,
    .multiply_q8 = multiply_q8,
    .multiply_q4 = multiply_q4,
    .multiply_bf16 = multiply_bf16,
    .unpack_q4 = unpack_q4,
    .bias_sums = bias_sums,
    .accumulate = accumulate,
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
