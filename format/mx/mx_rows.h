#pragma once
// MXFP4 (OCP Microscaling Formats 1.0) as released rows, and these rows in the tiles of a container.
//
// A row of `cols` weights, a multiple of 32, is
//   codes      cols / 2 bytes, weight 2j in the low nibble of byte j, weight 2j + 1 in the high one
//   exponents  cols / 32 bytes
// as gpt-oss has both in tensors of their own ("..._blocks", "..._scales"). Rows in this form are the values
// of DType::mxfp4: digests of sources are over them (docs/decisions/0036-mxfp4-is-kept-exact.md).

#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/digest.h"
#include "format/container_reader.h"
#include "format/tile.h"

namespace sluice::format {

[[nodiscard]] constexpr std::uint64_t mx_code_bytes(std::uint64_t cols) { return cols / 2; }
[[nodiscard]] constexpr std::uint64_t mx_exponent_bytes(std::uint64_t cols) { return cols / kMx4BlockCols; }
[[nodiscard]] constexpr std::uint64_t mx_row_bytes(std::uint64_t cols) {
  return mx_code_bytes(cols) + mx_exponent_bytes(cols);
}

/// Brings ggml's blocks of one row into the released order. A block of ggml is the exponent, then 16 bytes
/// with weight j in the low nibble of byte j and weight j + 16 in the high one.
void mx_row_from_ggml(base::Bytes blocks, base::MutableBytes row);
/// The reverse.
void mx_row_to_ggml(base::Bytes row, base::MutableBytes blocks);

/// The first weight of a row that is NaN or beyond a float's range.
[[nodiscard]] std::optional<std::uint64_t> find_not_finite(base::Bytes row);

/// Decodes a row, exactly.
void mx_row_to_floats(base::Bytes row, std::span<float> out);

/// The order of four bytes of codes in tiles: byte i gets the codes of weights i and i + 4 out of eight. The
/// lowest byte has the first weight.
[[nodiscard]] std::uint32_t to_tile_order(std::uint32_t codes);
/// The reverse.
[[nodiscard]] std::uint32_t to_released_order(std::uint32_t codes);

/// Takes the first `rows` rows of a panel out of its tiles, bit for bit as they were released. `codes` and
/// `exponents` are the panel's parts of both planes; `out` has rows * mx_row_bytes(layout.cols) bytes.
void mx_rows_of_panel(const TileLayout& layout, base::Bytes codes, base::Bytes exponents, std::uint64_t rows,
                      base::MutableBytes out);

/// The source digest that follows from a tensor in mx4 (ContainerTensor::source_digest): nothing about it is
/// taken from the directory. Reads the tensor once. Error{io}.
[[nodiscard]] base::Sha256 mx_source_digest(const ContainerReader& container, const ContainerTensor& tensor);

}  // namespace sluice::format
