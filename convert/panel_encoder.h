#pragma once
// Encodes panels of 64 rows into the bytes of a container's tiles (format/tile.h). A panel is cut into strips
// of 16 rows, on which several encoders may work at once: a whole panel of w2 would be a task of more than
// half a millisecond, and all workers would wait for the last one.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "convert/gptq.h"
#include "convert/kernels/kernels.h"
#include "convert/quant_error.h"
#include "format/tile.h"

namespace sluice::convert {

constexpr std::size_t kStripRows = kInterleaveRows;  ///< rows of a strip
constexpr std::size_t kPanelStrips = format::kPanelRows / kStripRows;

/// The part of the planes after the codes (exponents, magnitudes, signs, row scales) that belongs to one
/// panel.
struct EncodedPanel {
  /// Starts a panel of which no strip is encoded yet. Reuses the memory of the previous one.
  void begin(const format::TileLayout& layout);
  [[nodiscard]] QuantError error() const;

  // Complete when all strips are encoded:
  std::vector<std::byte> exponents;
  std::vector<std::byte> magnitudes;
  std::vector<std::byte> signs;
  std::vector<std::byte> row_scales;

  std::array<QuantError, kPanelStrips> errors;  ///< zero for mx4, and for bf16 tiles of bf16 values
  std::vector<std::int8_t> sub_scales;          ///< q6, q4: [row][group]
  unsigned strips_left = 0;                     ///< strips that are not encoded yet; atomic
};

/// Used by one thread at a time.
class PanelEncoder {
 public:
  /// Tests pass kernels that are not the fastest.
  explicit PanelEncoder(const Kernels& chosen = kernels()) : kernels_(chosen) {}

  /// Encodes strip `strip` of a panel; each strip of a panel is encoded once. `rows` is [row][cols] f32, at
  /// most kStripRows rows; missing rows are zero. `codes` are the codes of the whole panel
  /// (layout.panel_code_bytes), of which those of the strip are written. With `factors`, q4 rows are rounded
  /// by GPTQ.
  void encode(const format::TileLayout& layout, std::size_t strip, std::span<const float> rows,
              base::MutableBytes codes, EncodedPanel& panel, const GptqFactors* factors = nullptr);

  /// Does the same as encode() for rows of bf16 values. False when one of them is NaN or infinity; the strip
  /// is then not encoded.
  [[nodiscard]] bool encode_bf16(const format::TileLayout& layout, std::size_t strip, base::Bytes rows,
                                 base::MutableBytes codes, EncodedPanel& panel,
                                 const GptqFactors* factors = nullptr);

  /// Does the same as encode() for rows of MXFP4 (format/mx/mx_rows.h) and the type mx4: the bytes are put in
  /// another order, and nothing is rounded.
  void pack_mxfp4(const format::TileLayout& layout, std::size_t strip, base::Bytes rows,
                  base::MutableBytes codes, EncodedPanel& panel);

 private:
  /// A strip that is being encoded.
  struct Strip {
    const format::TileLayout& layout;
    std::size_t first_row;  ///< in the panel
    EncodedPanel& panel;
    const GptqFactors* factors;
    QuantError& error;
  };

  void begin(const Strip& strip);
  template <typename FillRow>
  void fill_rows(const Strip& strip, std::size_t row_count, base::MutableBytes codes,
                 const FillRow& fill_row);
  static void end(const Strip& strip);
  void quantize(const Strip& strip, std::size_t row);
  void quantize_with_sub_scales(const Strip& strip, std::size_t row);
  void quantize_q4_with_factors(const Strip& strip, std::size_t row);
  [[nodiscard]] std::uint32_t* words_of(std::size_t row) { return words_.data() + row * stride_; }

  const Kernels& kernels_;
  std::size_t stride_ = 0;            // words from row to row in `words_`
  std::vector<float> row_;            // the current row, padded with zeros
  std::vector<std::uint32_t> words_;  // the codes of the strip's rows; q6 has one byte for each
};

}  // namespace sluice::convert
