#pragma once
// The layout of matrices in a container: tiles in the form in which kernels multiply them, so that loading
// repacks nothing.
//
// A matrix W [rows, cols] (out x in, row-major as released) is padded with zero weights to multiples of 64 in
// both directions and stored as planes, one after the other:
//
//   bf16   codes       2 bytes per weight
//   q8     codes       1 byte per weight (s8); row scales (f32)
//   q6     codes       6 bits per weight; magnitudes (2 bits) of the sub-scales, one for 16 inputs of a row;
//                      row scales (f32)
//   q4     codes       4 bits per weight; magnitudes (4 bits) and signs (1 bit) of the sub-scales, one for 16
//                      inputs of a row; row scales (f32)
//   mx4    codes       4 bits per weight; exponents (8 bits), one for 32 inputs of a row
//
// Terms: a *panel* is 64 rows (n) with all their inputs; a *tile* is 64 rows x 64 inputs (k) of a panel; a
// *quad* is 4 neighbouring inputs of a row, whose codes are stored together, as VNNI instructions read them;
// a *group* is the 16 inputs of a row that share a sub-scale.
//
// Weight values:  q8: code * row_scale      q6, q4: code * sub_scale * row_scale
// with, in q6, code in [-32, 31] and sub_scale in [1, 4], and in q4 code in [-8, 7] and sub_scale in
// +-[1, 16], the pair (-8, -16) excluded, so that code * sub_scale is exactly an int8: all three types are
// int8 matrices under one float scale a row.
//
// mx4 keeps MXFP4 (OCP Microscaling Formats 1.0) as it was released, and is never rounded to. Codes are E2M1:
// bit 3 is the sign, bits 0 to 2 choose from 0, 0.5, 1, 1.5, 2, 3, 4, 6. Exponents are E8M0:
//   weight = value(code) * 2^(exponent - 127) = (2 * value(code)) * 2^(exponent - 128)
// where 2 * value(code) is an integer in [-12, 12]. Exponent 255 would be NaN and does not occur. Padding has
// code 0 and exponent 0.
//
// The tiles of a panel follow one another. In q8 a tile is what oneDNN names BA16a64b4a: 16 quads of k, each
// 64 rows x 4 inputs. In q4 two neighbouring quads share 256 bytes: the even one has the low nibbles, the odd
// one the high ones, each code stored as code + 8. In q6 the low four bits of code + 32 are stored in the
// same way, and 128 bytes with the high two bits follow: 32 bytes for each 16 rows, byte n % 8 * 4 + k % 4,
// in which the even quad of row n % 16 < 8 has the lowest two bits, then its odd quad, then the quads of row
// n % 16 + 8. In bf16 a tile is 64 rows x 32 inputs, BA16a64b2a. In mx4 the codes lie as in q4, each as it
// was released, and a tile has 128 bytes of exponents: those of 64 rows for its first 32 inputs, then those
// for the other 32. docs/container.md has worked examples.
//
// Rejected: scales next to every tile (codes would lose their constant step within a panel), fp16 block
// scales (the products would not be integers).

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace sluice::format {

constexpr std::uint64_t kPanelRows = 64;
constexpr std::uint64_t kTileCols = 64;
constexpr std::uint64_t kQ8TileBytes = 4096;
constexpr std::uint64_t kQ6TileBytes = 3072;
constexpr std::uint64_t kQ4TileBytes = 2048;
constexpr std::uint64_t kQ6PairBytes = 384;  ///< two quads of inputs: 256 of low bits, 128 of high ones
constexpr std::uint64_t kGroupCols = 16;     ///< inputs that share a q6 or q4 sub-scale
constexpr std::uint64_t kGroupsPerTile = 4;
constexpr std::uint64_t kMagnitudeBytesPerTile = 128;   ///< 64 rows x 4 groups x 4 bits
constexpr std::uint64_t kSignBytesPerTile = 32;         ///< 64 rows x 4 groups x 1 bit
constexpr std::uint64_t kQ6MagnitudeBytesPerTile = 64;  ///< 64 rows x 4 groups x 2 bits
constexpr std::uint64_t kBf16TileCols = 32;
constexpr std::uint64_t kMx4TileBytes = kQ4TileBytes;
constexpr std::uint64_t kMx4BlockCols = 32;           ///< inputs that share an mx4 exponent
constexpr std::uint64_t kExponentBytesPerTile = 128;  ///< 2 blocks of inputs x 64 rows x 8 bits

// Activations are quantized to s8 in chunks of this many inputs, one f32 scale a token and chunk. The
// inputs of w2 have the largest outliers (SiLU times up) and get finer chunks. Both are multiples of two
// groups. Constants of the format: containers are only comparable when all use the same.
// measured: docs/decisions/0002-activation-chunks.md
constexpr std::uint64_t kActivationChunk = 128;
constexpr std::uint64_t kActivationChunkDown = 32;

enum class TileType : std::uint8_t { bf16, q8, q6, q4, mx4 };

[[nodiscard]] std::string_view to_string(TileType type);
/// True for q8, q6 and q4.
[[nodiscard]] bool has_row_scales(TileType type);

/// Sizes and offsets of a matrix's planes, in bytes from the start of the matrix. Offsets are multiples of
/// 64.
struct TileLayout {
  TileLayout(TileType type, std::uint64_t rows, std::uint64_t cols);

  TileType type;
  std::uint64_t rows;
  std::uint64_t cols;
  std::uint64_t padded_rows;
  std::uint64_t padded_cols;
  std::uint64_t panels;       ///< padded_rows / 64
  std::uint64_t panel_tiles;  ///< k tiles of 64 inputs in a panel: padded_cols / 64

  std::uint64_t panel_code_bytes;  ///< codes of one panel
  std::uint64_t exponents_offset_bytes;
  std::uint64_t magnitudes_offset_bytes;
  std::uint64_t signs_offset_bytes;
  std::uint64_t row_scales_offset_bytes;
  std::uint64_t total_bytes;

  /// Bytes of the exponents, magnitudes and signs that belong to one panel; 0 for types without them.
  [[nodiscard]] std::uint64_t panel_exponent_bytes() const;
  [[nodiscard]] std::uint64_t panel_magnitude_bytes() const;
  [[nodiscard]] std::uint64_t panel_sign_bytes() const;

  /// Where the code of a weight lies, in bytes from the start of the matrix. For q4 and mx4 the byte that has
  /// it in a nibble, for q6 the byte that has its low four bits in a nibble.
  [[nodiscard]] std::uint64_t code_offset_bytes(std::uint64_t row, std::uint64_t col) const;
  /// q6, q4, mx4: true when the code is in the high nibble.
  [[nodiscard]] static bool in_high_nibble(std::uint64_t col) { return col / 4 % 2 == 1; }
  /// q6: the byte of the high two bits, and by how many bits they are shifted in it.
  [[nodiscard]] std::uint64_t high_bits_offset_bytes(std::uint64_t row, std::uint64_t col) const;
  [[nodiscard]] static unsigned high_bits_shift(std::uint64_t row, std::uint64_t col) {
    return static_cast<unsigned>(row / 8 % 2 * 4 + col / 4 % 2 * 2);
  }
  /// The byte that has the magnitude of (row, group of col). q4: rows 32..63 of a panel are in high nibbles.
  /// q6: the bits of row n are shifted up by n % 64 / 16 * 2.
  [[nodiscard]] std::uint64_t magnitude_offset_bytes(std::uint64_t row, std::uint64_t col) const;
  /// mx4: the exponent of (row, block of col).
  [[nodiscard]] std::uint64_t exponent_offset_bytes(std::uint64_t row, std::uint64_t col) const;
  /// q4: the byte that has the sign, in bit row % 8.
  [[nodiscard]] std::uint64_t sign_offset_bytes(std::uint64_t row, std::uint64_t col) const;
};

// The reference implementation of every kernel: one weight at a time, by the definition above.

/// q6, q4: the sub-scale of the group of (row, col).
[[nodiscard]] int sub_scale_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row,
                               std::uint64_t col);
/// mx4: the released code of a weight, 0 to 15, and the released exponent of its block, 0 to 255.
[[nodiscard]] unsigned mx4_code_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row,
                                   std::uint64_t col);
[[nodiscard]] unsigned exponent_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row,
                                   std::uint64_t col);
/// q8, q6, q4: the int8 weight under the row's scale. mx4: twice the value of the code, the integer under
/// 2^(exponent - 128).
[[nodiscard]] int integer_weight_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row,
                                    std::uint64_t col);
/// q8, q6, q4: the row's scale.
[[nodiscard]] float row_scale_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row);
/// Any type: the weight as a float. mx4: exact, but infinite where the released value exceeds a float's
/// range.
[[nodiscard]] float weight_at(const TileLayout& layout, base::Bytes matrix, std::uint64_t row,
                              std::uint64_t col);

/// Twice the values of the codes 0 to 15 of E2M1, which are integers. Code 8 is -0.
inline constexpr std::array<std::int8_t, 16> kDoubledE2m1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                                             0, -1, -2, -3, -4, -6, -8, -12};
/// The value of an MXFP4 code under the exponent of its block. Exact, infinite where it exceeds a float's
/// range, and NaN for exponent 255.
[[nodiscard]] float mx4_to_f32(unsigned code, unsigned exponent);

/// Average bits per weight: codes, exponents, sub-scales and row scales, without padding.
[[nodiscard]] double bits_per_weight(TileType type, std::uint64_t rows, std::uint64_t cols);

}  // namespace sluice::format
