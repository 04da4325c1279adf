#pragma once
// Encodes panels of 64 rows into the bytes of a container's tiles (format/tile.h).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "convert/gptq.h"
#include "convert/kernels/kernels.h"
#include "convert/quantize.h"
#include "format/tile.h"

namespace sluice::convert {

/// One panel's share of the planes that come after the codes of its matrix.
struct EncodedPanel {
  std::vector<std::byte> magnitudes;
  std::vector<std::byte> signs;
  std::vector<std::byte> row_scales;
  QuantError error;  ///< of bf16 tiles made of bf16 values: nothing
};

/// Belongs to one thread at a time.
class PanelEncoder {
 public:
  /// Tests ask for kernels that are not the fastest.
  explicit PanelEncoder(const Kernels& chosen = kernels()) : kernels_(chosen) {}

  /// `rows`: [row][cols] f32, at most 64 rows; missing ones are zero. `codes`: layout.panel_code_bytes, all
  /// of which are written. Reuses the memory of `panel`. With a compensation q4 rows are rounded for it.
  void encode(const format::TileLayout& layout, std::span<const float> rows, base::MutableBytes codes,
              EncodedPanel& panel, const Compensation* compensation = nullptr);

  /// The same of bf16 values. False when one of them is NaN or infinity; the panel is then of no use.
  [[nodiscard]] bool encode_bf16(const format::TileLayout& layout, base::Bytes rows, base::MutableBytes codes,
                                 EncodedPanel& panel, const Compensation* compensation = nullptr);

 private:
  void begin(const format::TileLayout& layout, EncodedPanel& panel);
  template <typename FillRow>
  void encode_strips(const format::TileLayout& layout, std::size_t row_count, base::MutableBytes codes,
                     const FillRow& fill_row);
  void quantize(const format::TileLayout& layout, std::size_t row, EncodedPanel& panel,
                const Compensation* compensation);
  void quantize_q4(std::size_t row, EncodedPanel& panel);
  void compensate_q4(const format::TileLayout& layout, std::size_t row, const Compensation& compensation,
                     EncodedPanel& panel);
  void store_sub_scales(const format::TileLayout& layout, EncodedPanel& panel) const;
  [[nodiscard]] std::uint32_t* words_of(std::size_t row) {
    return words_.data() + row % kInterleaveRows * stride_;
  }

  const Kernels& kernels_;
  std::size_t blocks_ = 0;               // of the q4 search in a row
  std::size_t stride_ = 0;               // words from row to row
  std::vector<float> row_;               // filled up with zeros
  std::vector<std::uint32_t> words_;     // of sixteen rows: what lies in the panel every 256 bytes
  std::vector<std::int8_t> sub_scales_;  // [row][group]
};

}  // namespace sluice::convert
