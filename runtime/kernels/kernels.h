#pragma once
// The inner loops, once for every instruction set. The rest of the runtime calls them through one table that
// is chosen when an engine is made. All functions are thread-safe: they have no state, and write only to what
// they are given.
//
// Integer kernels give the same integers on every instruction set. Float kernels give the same bits too: they
// work in 16 virtual lanes with fused multiply-adds in one fixed order and one reduction tree, whatever the
// width of the registers. A result never depends on how many rows are computed together.
//
// This header is seen by files that are compiled for AVX2 or AVX-512, so it has no inline functions: the
// linker could keep such a file's copy and run it on a machine that has no AVX.

#include <cstddef>
#include <cstdint>

namespace sluice::runtime {

// Limits of the number of inputs that share an activation scale, a chunk. It is a multiple of the least.
constexpr std::size_t kChunkColsMin = 32;
constexpr std::size_t kChunkColsMax = 128;
constexpr std::size_t kLanes = 16;  ///< float rows are padded with zeros to a multiple of this

/// Activations for the integer kernels: s8 codes in chunks. All rows of a chunk are adjacent in memory.
struct QuantizedView {
  const std::int8_t* codes;        ///< [chunk][row][chunk_cols]
  const float* scales;             ///< [chunk][row]
  const std::int32_t* group_sums;  ///< [cols / 16][row]: sums of 16 codes; they remove the bias of q6 and q4
                                   ///< codes for few rows
  const std::int32_t* chunk_sums;  ///< [chunk][row]: sums of a chunk's codes; they remove all other biases
  std::size_t rows;
  std::size_t cols;        ///< padded, a multiple of 64
  std::size_t chunk_cols;  ///< a multiple of 32; the last chunk may be narrower
};

/// Some rows of some chunks of one width, for the innermost loops. Pointers are to the first of these rows;
/// chunk_rows is the number of all rows, by which chunks are apart in memory.
struct ChunkRows {
  const std::int8_t* codes;        ///< [chunk][chunk_rows][cols]
  const std::int32_t* chunk_sums;  ///< [chunk][chunk_rows]
  const float* scales;             ///< [chunk][chunk_rows]
  std::size_t chunks;
  std::size_t chunk_rows;
  std::size_t cols;
};

// Bytes of a group (16 inputs of all 64 outputs) in the planes of a panel, and of its parts (format/tile.h).
constexpr std::size_t kQ8GroupBytes = 1024;
constexpr std::size_t kQ6GroupBytes = 768;
constexpr std::size_t kQ4GroupBytes = 512;
constexpr std::size_t kQ6MagnitudeBytes = 16;
constexpr std::size_t kQ4MagnitudeBytes = 32;
constexpr std::size_t kQ4SignBytes = 8;
constexpr std::size_t kQuadBytes = 256;    ///< four inputs, a byte each
constexpr std::size_t kQ4PairBytes = 256;  ///< two quads of q4
constexpr std::size_t kQ6PairBytes = 384;  ///< two quads of q6: kQ6LowBytes, then the high bits
constexpr std::size_t kQ6LowBytes = 256;
// Bytes of a block of mx4 (32 inputs of all 64 outputs, which share an exponent an output), and of its parts.
constexpr std::size_t kMx4BlockCols = 32;
constexpr std::size_t kMx4BlockBytes = 1024;
constexpr std::size_t kMx4ExponentBytes = 64;
/// Chunks with larger exponents are always added up block by block (mx4_products-inl.h).
constexpr int kMx4FoldedExponentMax = 230;

/// One panel of a weight matrix: 64 outputs. See format/tile.h for the bytes.
struct PanelView {
  const std::byte* codes;
  const std::byte* magnitudes;  ///< q6 and q4
  const std::byte* signs;       ///< q4 only
  const std::byte* exponents;   ///< mx4 only: [block][64], 127 added
  const float* row_scales;      ///< [64]; not bf16. mx4 has none, and a half stands for each
  std::size_t tiles;            ///< of 64 inputs
};

enum class KvElement : std::uint8_t { f32, bf16, s8 };

constexpr std::size_t kAttentionQueries = 4;  ///< queries that share the loads of keys and values
constexpr std::size_t kLatentQueries = 32;    ///< the most queries that read latents together
constexpr std::size_t kKvPageTokens = 64;     ///< positions of a page, whose scores are one block of `attend`

/// One head's keys and values, in pages of kKvPageTokens positions; rows of `stride` elements. Offsets are
/// those of the head's arrays within each page. With latent attention the latents are the keys, and the
/// rotary parts of the keys stand in the place of the values.
struct KeyValueView {
  const std::byte* const* pages;  ///< [position / kKvPageTokens]
  std::size_t keys_offset_bytes;
  std::size_t values_offset_bytes;
  std::size_t key_scales_offset_bytes;    ///< s8 only: element = code x scale
  std::size_t value_scales_offset_bytes;  ///< s8 only
  std::size_t stride;                     ///< elements of a key: head_dim padded to kLanes
  std::size_t value_stride;               ///< elements of a value: as of a key, but for latent attention
  KvElement element;
};

/// How scores of queries become weights, besides the softmax.
struct ScoreRule {
  /// [query] a score that takes part in the softmax, but has no value (gpt-oss's sdpa()); null: none.
  const float* sinks;
  float soft_cap;  ///< scores are cap x tanh(score / cap); 0: as they are. A sink stays as it is
};

enum class ActivationKind : std::uint8_t { silu, gelu_tanh, clamped_swiglu };

/// How the hidden values of a feed-forward follow from gate and up, which clamped_swiglu limits first
/// (format/model_description.h).
struct GatedActivation {
  ActivationKind kind;
  float alpha;  ///< clamped_swiglu only
  float limit;  ///< clamped_swiglu only
};

constexpr std::size_t kDeltaTokens = 32;  ///< tokens of one call of `delta_rule`, at most

/// Some tokens of a head of a gated delta net. Rows are padded with zeros to their strides, which are
/// multiples of kLanes.
struct DeltaTokens {
  const float* queries;  ///< [token][key_stride], of length 1 before they were scaled
  const float* keys;     ///< [token][key_stride], of length 1
  const float* values;   ///< [token][value_stride]
  const float* decays;   ///< [token] factor of the state
  const float* betas;    ///< [token] share of the error that the state takes in
  std::size_t count;     ///< kDeltaTokens at most
  std::size_t key_dim;   ///< rows of the state
  std::size_t key_stride;
  std::size_t value_stride;
};

struct Kernels {
  const char* name;

  // out[r, n] = sum over inputs of weight[n] x activation[r], for the outputs n of `count` panels side by
  // side; rows of `out` are out_stride floats apart. Each chunk has an integer sum. Chunk by chunk,
  // total = fma(float(sum), scale, total); the total is then multiplied by the row scale.
  void (*multiply_q8)(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                      std::size_t out_stride);
  void (*multiply_q6)(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                      std::size_t out_stride);
  void (*multiply_q4)(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                      std::size_t out_stride);
  // This takes panels and outputs of mx4, whose blocks of 32 inputs have exponents of their own. Codes stand
  // for twice their value, an integer up to 12, so each block has an integer sum. Within a chunk, block by
  // block, sum = fma(float(block_sum), 2^(exponent - 127), sum); then chunk by chunk, total = fma(sum, scale,
  // total). The total is multiplied by a half, which takes the doubling back
  // (docs/decisions/0037-mx4-products.md).
  void (*multiply_mx4)(const PanelView* panels, std::size_t count, const QuantizedView& x, float* out,
                       std::size_t out_stride);
  /// The same panels and outputs for bf16 weights, which are widened to f32. x: [row][x_stride] f32, zero
  /// beyond the matrix's columns. Every output adds its inputs in their order, each with one fma.
  void (*multiply_bf16)(const PanelView* panels, std::size_t count, const float* x, std::size_t rows,
                        std::size_t x_stride, float* out, std::size_t out_stride);

  // For products through oneDNN (runtime/onednn), which multiplies neither packed codes nor their scales.
  /// Weights of the inputs [first_col, first_col + cols), multiples of 64, as f32: out[input][output], rows
  /// of `out` are out_stride floats apart.
  void (*widen_bf16)(const PanelView& panel, std::size_t first_col, std::size_t cols, float* out,
                     std::size_t out_stride);
  /// The int8 weights of some groups, kChunkColsMax inputs at most, as the groups of a q8 tile lie.
  void (*unpack_q6)(const PanelView& panel, std::size_t first_group, std::size_t groups, std::int8_t* out);
  void (*unpack_q4)(const PanelView& panel, std::size_t first_group, std::size_t groups, std::int8_t* out);
  /// total = fma(float(sums - 128 x weight_sums), scale, total) for n outputs, a multiple of kLanes. The
  /// differences are below 2^24.
  void (*add_sums)(const std::int32_t* sums, const std::int32_t* weight_sums, float scale, std::size_t n,
                   float* total);

  // These repeat the multiplications of `multiply_q8` and `multiply_q4` for many rows `rounds` times on
  // registers alone, which bounds the speed of the kernels. They return the number of operations: a product
  // and its addition are two. Used by bench.
  std::uint64_t (*peak_q8)(std::size_t rounds);
  std::uint64_t (*peak_q4)(std::size_t rounds);

  /// Quantizes one chunk of one row: scale = max|x| / 127, codes rounded to nearest even.
  /// count is a multiple of 16. group_sums are group_stride apart. Returns the sum of all codes.
  std::int32_t (*quantize_chunk)(const float* x, std::size_t count, std::int8_t* codes, float* scale,
                                 std::int32_t* group_sums, std::size_t group_stride);

  // Functions of rows of floats. n is a multiple of kLanes, and padding is zero before and after.
  /// out = x * rsqrt(mean(x^2) + eps) * weight; the mean is over `true_count` elements.
  void (*rms_norm)(const float* x, const float* weight, float eps, std::size_t true_count, std::size_t n,
                   float* out);
  /// out[r][i] = the sum of x[r] * w[i], for `rows` rows of x and `count` rows of w, which are the strides
  /// apart. A sum's bits do not depend on `rows` and `count`.
  void (*dots)(const float* x, std::size_t x_stride, std::size_t rows, const float* w, std::size_t w_stride,
               std::size_t count, std::size_t n, float* out, std::size_t out_stride);
  /// silu: out = silu(gate) * up. gelu_tanh: out = gelu(gate) * up, with gelu(x) = x / 2 * (1 + tanh(sqrt(2 /
  /// pi) * (x + 0.044715 x^3))) (arXiv 1606.08415). clamped_swiglu: with g = min(gate, limit) and u = up
  /// limited to +-limit, out = (u + 1) * g / (1 + exp(-alpha g)). Each gives 0 for gate and up of 0, and
  /// keeps a NaN. `out` may be `gate`.
  void (*activate)(const GatedActivation& activation, const float* gate, const float* up, std::size_t n,
                   float* out);
  /// x = cap * tanh(x / cap)
  void (*soft_cap)(float cap, std::size_t n, float* x);
  /// x = 1 / (1 + exp(-x))
  void (*sigmoid)(float* x, std::size_t n);
  /// y = fma(scale, x, y)
  void (*add_scaled)(const float* x, float scale, std::size_t n, float* y);
  /// y += x
  void (*add)(const float* x, std::size_t n, float* y);
  /// x *= scale[i]
  void (*multiply)(const float* scale, std::size_t n, float* x);
  /// x = exp(x - max) for `count` values at x, which has room for a multiple of kLanes; returns their sum.
  float (*exp_sum)(float* x, std::size_t count, float max);
  /// Softmax attention of `count` queries over positions [first, end), page by page of keys. Scores and sums
  /// are f32; the scale of an s8 row multiplies its score or its weight. queries: [count][stride], already
  /// scaled. out: [count][stride].
  void (*attend)(const float* queries, std::size_t count, const KeyValueView& kv, std::size_t first,
                 std::size_t end, const ScoreRule& rule, float* out);
  /// Softmax attention of `count` queries, kLatentQueries at most, over the latents of positions [0, end). A
  /// latent is the value, and with its rotary part the key. queries: [count][stride + value_stride], already
  /// scaled. out: [count][out_stride], of which `stride` columns are written.
  void (*attend_latents)(const float* queries, std::size_t count, const KeyValueView& kv, std::size_t end,
                         float* out, std::size_t out_stride);

  // For recurrent mixers. n is a multiple of kLanes.
  /// out[i] = the sum of weights[tap][i] * inputs[tap][i], tap after tap; then silu of it, where asked for.
  /// weights: [tap][n].
  void (*convolve)(const float* const* inputs, const float* weights, std::size_t taps, std::size_t n,
                   bool silu, float* out);
  /// The gated delta rule (arXiv 2412.06464, eq. 10), token after token on the state S
  /// [key_dim][value_stride] of a head: d = beta (v - decay S^T k); out = decay S^T q + (k q) d; S = decay S
  /// + k d. The last equation gives S^T q = out. `from` and `to` are the state before and after, and may be
  /// the same. out: [token][value_stride].
  void (*delta_rule)(const DeltaTokens& tokens, const float* from, float* to, float* out);
  /// Rounds n floats, any number, to nearest even; NaN stays NaN.
  void (*to_bf16)(const float* x, std::size_t n, std::uint16_t* out);
};

const Kernels& generic_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avxvnni_kernels();
const Kernels& avx512_kernels();
#endif

}  // namespace sluice::runtime
