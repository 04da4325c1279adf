#pragma once
// Encodes panels of 64 rows into the bytes of a container's tiles (format/tile.h). A panel is cut into strips
// that several encoders may work on at once: a panel of w2 alone would be a task of more than half a
// millisecond, and processors would wait for the last one.

#include <array>
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

constexpr std::size_t kStripRows = kInterleaveRows;
constexpr std::size_t kPanelStrips = format::kPanelRows / kStripRows;

/// One panel's share of the planes that come after the codes of its matrix.
struct EncodedPanel {
  /// Of a panel of which nothing is encoded. Takes over the memory of the one before.
  void begin(const format::TileLayout& layout);
  [[nodiscard]] QuantError error() const;

  // There when all strips are encoded:
  std::vector<std::byte> magnitudes;
  std::vector<std::byte> signs;
  std::vector<std::byte> row_scales;

  std::array<QuantError, kPanelStrips> errors;  ///< of bf16 tiles made of bf16 values: nothing
  std::vector<std::int8_t> sub_scales;          ///< q6, q4: [row][group]
  unsigned strips_left = 0;
};

/// Belongs to one thread at a time.
class PanelEncoder {
 public:
  /// Tests ask for kernels that are not the fastest.
  explicit PanelEncoder(const Kernels& chosen = kernels()) : kernels_(chosen) {}

  /// Each strip of a panel is encoded once. `rows`: [row][cols] f32 of the strip, kStripRows at most; missing
  /// ones are zero. `codes`: of the panel, layout.panel_code_bytes, of which the strip's are written. With a
  /// compensation q4 rows are rounded for it.
  void encode(const format::TileLayout& layout, std::size_t strip, std::span<const float> rows,
              base::MutableBytes codes, EncodedPanel& panel, const Compensation* compensation = nullptr);

  /// The same of bf16 values. False when one of them is NaN or infinity; the strip is then not encoded.
  [[nodiscard]] bool encode_bf16(const format::TileLayout& layout, std::size_t strip, base::Bytes rows,
                                 base::MutableBytes codes, EncodedPanel& panel,
                                 const Compensation* compensation = nullptr);

 private:
  /// A strip that is being encoded.
  struct Strip {
    const format::TileLayout& layout;
    std::size_t first_row;  ///< in the panel
    EncodedPanel& panel;
    const Compensation* compensation;
    QuantError& error;
  };

  void begin(const Strip& strip);
  template <typename FillRow>
  void fill_rows(const Strip& strip, std::size_t row_count, base::MutableBytes codes,
                 const FillRow& fill_row);
  static void end(const Strip& strip);
  void quantize(const Strip& strip, std::size_t row);
  void quantize_with_sub_scales(const Strip& strip, std::size_t row);
  void compensate_q4(const Strip& strip, std::size_t row);
  [[nodiscard]] std::uint32_t* words_of(std::size_t row) { return words_.data() + row * stride_; }

  const Kernels& kernels_;
  std::size_t stride_ = 0;            // words from row to row
  std::vector<float> row_;            // filled up with zeros
  std::vector<std::uint32_t> words_;  // of the strip's rows; in q6 a byte a code
};

}  // namespace sluice::convert
