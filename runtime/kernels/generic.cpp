// The kernels in plain C++: for every machine, and as the reference of the other kernels. Few rows and many
// rows unpack the weights to s8 and go through one loop, so there is little here that can be wrong.

#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

constexpr const char* kName = "generic";

#include "runtime/kernels/simd-inl.h"

#include "runtime/kernels/float_kernels-inl.h"
#include "runtime/kernels/latent_kernels-inl.h"
#include "runtime/kernels/prefetch.h"
#include "runtime/kernels/recurrent_kernels-inl.h"

// Sub-scale of output n in a group (format/tile.h).
inline int sub_scale(const PanelView& panel, std::size_t group, std::size_t n) {
  const auto packed = static_cast<unsigned>(panel.magnitudes[group * kQ4MagnitudeBytes + n % 32]);
  const int magnitude = static_cast<int>(n < 32 ? packed & 15u : packed >> 4) + 1;
  const auto signs = static_cast<unsigned>(panel.signs[group * kQ4SignBytes + n / 8]);
  return (signs >> n % 8 & 1u) != 0 ? -magnitude : magnitude;
}

void unpack_q4_to_s8(const PanelView& panel, std::size_t first_group, std::size_t groups,
                     std::int8_t* weights) {
  const std::byte* packed = panel.codes + first_group * kQ4GroupBytes;
  for (std::size_t quad = 0; quad < groups * 4; ++quad) {
    for (std::size_t n = 0; n < 64; ++n) {
      const int scale = sub_scale(panel, first_group + quad / 4, n);
      for (std::size_t k = 0; k < 4; ++k) {
        const auto byte = static_cast<unsigned>(packed[quad / 2 * kQ4PairBytes + n * 4 + k]);
        const int code = static_cast<int>(quad % 2 == 0 ? byte & 15u : byte >> 4) - 8;
        weights[quad * kQuadBytes + n * 4 + k] = static_cast<std::int8_t>(code * scale);
      }
    }
  }
}

// The bits are taken apart as format/tile.h lays them out: low four bits of a pair of quads, then 128 bytes
// with their high two bits.
void unpack_q6_to_s8(const PanelView& panel, std::size_t first_group, std::size_t groups,
                     std::int8_t* weights) {
  for (std::size_t quad = 0; quad < groups * 4; ++quad) {
    const std::byte* pair = panel.codes + (first_group * 4 + quad) / 2 * kQ6PairBytes;
    const std::byte* magnitudes = panel.magnitudes + (first_group + quad / 4) * kQ6MagnitudeBytes;
    const std::size_t odd = quad % 2;
    for (std::size_t n = 0; n < 64; ++n) {
      const int scale = static_cast<int>(static_cast<unsigned>(magnitudes[n % 16]) >> n / 16 * 2 & 3u) + 1;
      for (std::size_t k = 0; k < 4; ++k) {
        const unsigned low = static_cast<unsigned>(pair[n * 4 + k]) >> odd * 4 & 15u;
        const auto highs = static_cast<unsigned>(pair[kQ6LowBytes + n / 16 * 32 + n % 8 * 4 + k]);
        const unsigned high = highs >> (n / 8 % 2 * 4 + odd * 2) & 3u;
        weights[quad * kQuadBytes + n * 4 + k] =
            static_cast<std::int8_t>((static_cast<int>(low | high << 4) - 32) * scale);
      }
    }
  }
}

Sums q8_sums(const std::int8_t* weights, std::size_t groups, const std::int8_t* codes, std::int32_t) {
  std::int32_t sum[64] = {};
  for (std::size_t quad = 0; quad < groups * 4; ++quad) {
    const std::int8_t* x = codes + quad * 4;
    for (std::size_t n = 0; n < 64; ++n) {
      const std::int8_t* w = weights + quad * kQuadBytes + n * 4;
      sum[n] += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
    }
  }
  Sums sums;
  __builtin_memcpy(&sums, sum, sizeof(sums));
  return sums;
}

Sums q4_sums(const PanelView& panel, std::size_t first_group, std::size_t groups, const std::int8_t* codes,
             const std::int32_t*, std::size_t) {
  alignas(64) std::int8_t weights[kChunkColsMax * 64];
  unpack_q4_to_s8(panel, first_group, groups, weights);
  return q8_sums(weights, groups, codes, 0);
}

#include "runtime/kernels/q4_rows-inl.h"

Sums q6_sums(const PanelView& panel, std::size_t first_group, std::size_t groups, const std::int8_t* codes,
             const std::int32_t*, std::size_t) {
  alignas(64) std::int8_t weights[kChunkColsMax * 64];
  unpack_q6_to_s8(panel, first_group, groups, weights);
  return q8_sums(weights, groups, codes, 0);
}

// Twice the values of the codes of E2M1 (OCP Microscaling Formats 1.0, table 5), with a sign in bit 3.
constexpr std::int8_t kTwiceE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(exponent - 127), which is below the normal floats for 0.
inline float power_of_two(unsigned exponent) {
  const std::uint32_t bits = exponent == 0 ? 0x00400000u : exponent << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return power;
}

constexpr std::size_t kMx4Rows = 4;

template <std::size_t kRows>
void mx4_sums(const PanelView& panel, std::size_t first_block, std::size_t blocks, const std::int8_t* codes,
              std::size_t codes_stride, const std::int32_t*, std::size_t, Totals* sums) {
  for (std::size_t r = 0; r < kRows; ++r) sums[r] = {};
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::byte* packed = panel.codes + (first_block + block) * kMx4BlockBytes;
    alignas(64) std::int8_t weights[kMx4BlockCols * 64];
    for (std::size_t quad = 0; quad < kMx4BlockCols / 4; ++quad) {
      for (std::size_t i = 0; i < kQuadBytes; ++i) {
        const auto byte = static_cast<unsigned>(packed[quad / 2 * kQ4PairBytes + i]);
        weights[quad * kQuadBytes + i] = kTwiceE2m1[quad % 2 == 0 ? byte & 15u : byte >> 4];
      }
    }
    const std::byte* exponents = panel.exponents + (first_block + block) * kMx4ExponentBytes;
    float powers[64];
    for (std::size_t n = 0; n < 64; ++n) powers[n] = power_of_two(static_cast<unsigned>(exponents[n]));
    for (std::size_t r = 0; r < kRows; ++r)
      accumulate(q8_sums(weights, 2, codes + r * codes_stride + block * kMx4BlockCols, 0), powers, sums[r]);
  }
}

using Mx4Block = void;

// A block takes one row at a time: sums of 64 outputs are more than there are registers already.
struct Q8Block {
  static constexpr std::size_t kGroupBytes = kQ8GroupBytes;
  static constexpr std::size_t kCols = kChunkColsMin;
  static constexpr int kRows = 1;

  void load(const PanelView& panel, std::size_t first_group, std::size_t count) {
    groups = count;
    weights = reinterpret_cast<const std::int8_t*>(panel.codes) + first_group * kQ8GroupBytes;
  }

  template <int kCount>
  void multiply(const ChunkRows& rows, float* out, std::size_t) const {
    static_assert(kCount == 1);
    Totals totals = load_totals(out);
    accumulate(q8_sums(weights, groups, rows.codes, 0), rows.scales[0], totals);
    for (std::size_t i = 0; i < 4; ++i) store(out + i * 16, totals.part[i]);
  }

  std::size_t groups;
  const std::int8_t* weights;
};

struct Q6Block : Q8Block {
  static constexpr std::size_t kGroupBytes = kQ6GroupBytes;
  void load(const PanelView& panel, std::size_t first_group, std::size_t count) {
    groups = count;
    unpack_q6_to_s8(panel, first_group, count, unpacked);
    weights = unpacked;
  }

  alignas(64) std::int8_t unpacked[kChunkColsMax * 64];
};

struct Q4Block : Q8Block {
  static constexpr std::size_t kGroupBytes = kQ4GroupBytes;
  void load(const PanelView& panel, std::size_t first_group, std::size_t count) {
    groups = count;
    unpack_q4_to_s8(panel, first_group, count, unpacked);
    weights = unpacked;
  }

  alignas(64) std::int8_t unpacked[kChunkColsMax * 64];
};

// There are too few registers, so this multiplies one tile, which stays in the L1 cache. A round takes much
// longer than on registers, so there are fewer.
std::uint64_t peak_q8(std::size_t rounds) {
  rounds = rounds / 64 + 1;
  alignas(64) std::int8_t tile[4096];
  for (std::size_t i = 0; i < 4096; ++i) tile[i] = static_cast<std::int8_t>(i);
  for (std::size_t round = 0; round < rounds; ++round) {
    const Sums sums = q8_sums(tile, 4, tile, 0);
    asm volatile("" : : "r"(tile), "r"(&sums) : "memory");  // otherwise the compiler leaves the rounds out
  }
  return rounds * 4096 * 2;
}

std::uint64_t peak_q4(std::size_t rounds) { return peak_q8(rounds); }

// q8 needs no unpacking, so every number of rows goes through its block.
constexpr std::size_t kManyRowsQ8 = 1;
constexpr std::size_t kManyRowsQ6 = 2;
constexpr std::size_t kManyRowsQ4 = 2;

#include "runtime/kernels/bf16_products-inl.h"
#include "runtime/kernels/integer_products-inl.h"

}  // namespace

const Kernels& generic_kernels() { return kTable; }

}  // namespace sluice::runtime
