// Products with mx4 weights for all instruction sets: codes of 4 bits, and an exponent for 32 inputs of an
// output. integer_products-inl.h includes this.
//
// The kernel file must define before:
//
//   mx4_sums<n>(panel, first_block, blocks, codes, codes_stride, group_sums, group_stride, sums): sums[r] =
//     the sums of n rows, up to kMx4Rows, over `blocks` blocks of a chunk, added up in floats as kernels.h
//     says of multiply_mx4
//   Mx4Block: as the other blocks, with kManyRows, the least number of rows that use it, and another load:
//     load(panel, first_block, blocks, chunks), of chunks of `blocks` blocks each, returns whether it could
//     fold the exponents. void where there is no such block
//
// A block of weights for many rows is *folded*: an output's exponents within a chunk become shifts of its
// codes above the least exponent, and the chunk has a single integer sum under that exponent. This gives the
// same bits as adding block by block: where a kernel folds, all sums in question are below 2^22 times the
// least power of two, so the additions in floats do not round either. Chunks whose exponents are too far
// apart are computed block by block from the packed codes.
//
// The sum of a folded chunk is in the low bits of a float. The float 1.5 x 2^23 x 2^(exponent - 127), a
// "zero", has a last bit that is worth 2^(exponent - 127), so adding integers to its bits adds that many
// times this power, as long as their sum is below 2^22. A subtraction of the zero then gives the float that
// kernels.h asks for, exactly, in place of a conversion and a multiplication. Zeros of exponents above
// kMx4FoldedExponentMax would not be finite. Such exponents are never folded, nor would sums that become
// infinite on the way be the same.

// Some rows of a chunk of one panel, block by block.
template <std::size_t kRows>
inline void add_mx4_chunk(const PanelView& panel, const QuantizedView& x, const Chunks& chunk,
                          std::size_t first_row, float* out, std::size_t out_stride) {
  Totals sums[kRows];
  mx4_sums<kRows>(panel, chunk.first_group / 2, chunk.groups() / 2, chunk.codes + first_row * chunk.cols,
                  chunk.cols, x.group_sums + chunk.first_group * x.rows + first_row, x.rows, sums);
  for (std::size_t r = 0; r < kRows; ++r) {
    const Float16 scale = broadcast(x.scales[chunk.first * x.rows + first_row + r]);
    float* const totals = out + (first_row + r) * out_stride;
    for (std::size_t i = 0; i < 4; ++i)
      store(totals + i * 16, fma(sums[r].part[i], scale, load(totals + i * 16)));
  }
}

template <std::size_t kRows>
inline void add_mx4_rest(const PanelView& panel, const QuantizedView& x, const Chunks& chunk,
                         std::size_t first_row, float* out, std::size_t out_stride) {
  if constexpr (kRows > 0) {
    if (x.rows - first_row == kRows) return add_mx4_chunk<kRows>(panel, x, chunk, first_row, out, out_stride);
    add_mx4_rest<kRows - 1>(panel, x, chunk, first_row, out, out_stride);
  }
}

// All rows of neighbouring chunks of one panel, block by block.
inline void add_mx4_chunks(const PanelView& panel, const QuantizedView& x, const Chunks& chunks, float* out,
                           std::size_t out_stride) {
  for (std::size_t c = 0; c < chunks.count; ++c) {
    const Chunks chunk{chunks.first + c, 1, chunks.cols, chunks.first_group + c * chunks.cols / 16,
                       chunks.codes + c * chunks.cols * x.rows};
    std::size_t row = 0;
    for (; row + kMx4Rows <= x.rows; row += kMx4Rows)
      add_mx4_chunk<kMx4Rows>(panel, x, chunk, row, out, out_stride);
    add_mx4_rest<kMx4Rows - 1>(panel, x, chunk, row, out, out_stride);
  }
}

// Adds the products of all chunks to `out`.
template <typename Block>
inline void add_mx4(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                    std::size_t out_stride) {
  if constexpr (requires { Block::kManyRows; }) {
    if (x.rows >= Block::kManyRows) {
      Block block;
      for_each_block(x, Block::kCols, [&](const Chunks& chunks) {
        for (std::size_t p = 0; p < count; ++p) {
          if (block.load(panels[p], chunks.first_group / 2, chunks.cols / kMx4BlockCols, chunks.count))
            multiply_block(block, x, chunks, out + p * 64, out_stride,
                           codes_after<Block>(panels, count, p, chunks, x.cols / 16));
          else
            add_mx4_chunks(panels[p], x, chunks, out + p * 64, out_stride);
        }
      });
      return;
    }
  }
  for (std::size_t p = 0; p < count; ++p)
    for_each_block(x, x.chunk_cols, [&](const Chunks& chunk) {
      add_mx4_chunks(panels[p], x, chunk, out + p * 64, out_stride);
    });
}

void multiply_mx4(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                  std::size_t out_stride) {
  clear(x.rows, count, out, out_stride);
  add_mx4<Mx4Block>(panels, count, x, out, out_stride);
  apply_row_scales(panels, count, x.rows, out, out_stride);
}
