#include "runtime/memory/latent_keys.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "base/bytes.h"
#include "base/invariant.h"
#include "runtime/kernels/isa.h"

namespace sluice::runtime {
namespace {

using format::kPanelRows;
using format::kTileCols;
using format::TileLayout;
using format::TileType;

constexpr std::size_t kSquare = kPanelRows * kTileCols;  ///< weights of 64 rows x 64 inputs

/// Where each weight of 64 x 64 lies, in bytes from the first: [row][input].
std::array<std::uint16_t, kSquare> offsets_of(TileType type) {
  const TileLayout square(type, kPanelRows, kTileCols);
  std::array<std::uint16_t, kSquare> offsets{};
  for (std::size_t row = 0; row < kPanelRows; ++row)
    for (std::size_t col = 0; col < kTileCols; ++col)
      offsets[row * kTileCols + col] = static_cast<std::uint16_t>(square.code_offset_bytes(row, col));
  return offsets;
}

/// Copies the weights of one head after the other, 64 x 64 at a time.
class Transposer final {
 public:
  Transposer(const format::LatentAttention& attention, const Matrix& source, LatentKeys& keys)
      : attention_(attention),
        source_(source),
        keys_(keys),
        kernels_(kernels_for(detect_isa())),
        type_(latent_key_type(source.layout.type)),
        layout_(type_, attention.latent_rank, attention.plain_dims),
        offsets_(offsets_of(type_)),
        weight_bytes_(type_ == TileType::bf16 ? 2 : 1) {}

  void run() {
    for (std::size_t panel = 0; panel < source_.layout.panels; ++panel)
      for (std::size_t tile = 0; tile < source_.layout.panel_tiles; ++tile) copy(panel, tile);
  }

 private:
  /// The weights of a tile with their integers as a q8 tile has them, or of two tiles of bf16.
  const std::byte* weights_of(std::size_t panel, std::size_t tile) {
    const PanelView view = source_.panel(panel);
    auto* const out = reinterpret_cast<std::int8_t*>(unpacked_.data());
    const std::size_t first_group = tile * format::kGroupsPerTile;
    switch (source_.layout.type) {
      case TileType::bf16:
      case TileType::q8: return view.codes + tile * kSquare * weight_bytes_;
      case TileType::q6: kernels_.unpack_q6(view, first_group, format::kGroupsPerTile, out); break;
      case TileType::q4: kernels_.unpack_q4(view, first_group, format::kGroupsPerTile, out); break;
      case TileType::mx4: INVARIANT(!"open_mixer() has refused it");
    }
    return unpacked_.data();
  }

  void copy(std::size_t panel, std::size_t tile) {
    const std::size_t head_rows = attention_.plain_dims + attention_.value_dims;
    const std::byte* const weights = weights_of(panel, tile);
    const std::size_t cols = std::min<std::size_t>(kTileCols, source_.layout.cols - tile * kTileCols);
    for (std::size_t n = 0; n < kPanelRows; ++n) {
      const std::size_t row = panel * kPanelRows + n;
      const std::size_t dim = row % head_rows;
      if (row >= source_.layout.rows || dim >= attention_.plain_dims) continue;
      // Inputs of the released row become rows: 64 of them lie in one panel of the head's matrix.
      std::byte* const head = keys_.tiles.data() + row / head_rows * layout_.total_bytes;
      std::byte* const out =
          head + tile * layout_.panel_code_bytes + dim / kTileCols * kSquare * weight_bytes_;
      const std::size_t column = dim % kTileCols;
      // The size of a copy is a constant in each branch, which makes it one instruction.
      if (weight_bytes_ == 1) {
        for (std::size_t k = 0; k < cols; ++k)
          out[offsets_[k * kTileCols + column]] = weights[offsets_[n * kTileCols + k]];
      } else {
        for (std::size_t k = 0; k < cols; ++k)
          std::memcpy(out + offsets_[k * kTileCols + column], weights + offsets_[n * kTileCols + k], 2);
      }
    }
  }

  const format::LatentAttention& attention_;
  const Matrix& source_;
  LatentKeys& keys_;
  const Kernels& kernels_;
  const TileType type_;
  const TileLayout layout_;  // of a head
  const std::array<std::uint16_t, kSquare> offsets_;
  const std::size_t weight_bytes_;
  alignas(64) std::array<std::byte, kSquare> unpacked_{};
};

}  // namespace

TileType latent_key_type(TileType type) { return type == TileType::bf16 ? type : TileType::q8; }

std::optional<std::uint64_t> latent_key_bytes(const format::LatentAttention& attention, TileType type) {
  const TileLayout head(latent_key_type(type), attention.latent_rank, attention.plain_dims);
  return base::checked_mul(attention.heads, head.total_bytes);
}

LatentKeys transposed_keys(const format::LatentAttention& attention, const Matrix& key_value) {
  const TileLayout head(latent_key_type(key_value.layout.type), attention.latent_rank, attention.plain_dims);
  const bool integers = head.type != TileType::bf16;
  LatentKeys keys;
  keys.tiles.reserve(attention.heads * head.total_bytes);
  keys.input_scales.reserve(attention.heads * head.padded_cols);
  for (std::size_t h = 0; h < attention.heads; ++h) {
    std::byte* const data = keys.tiles.data() + h * head.total_bytes;
    keys.heads.push_back({head, data});
    // The scales of padding stay zero, which keeps the columns behind the latent zero.
    if (integers)
      std::fill_n(reinterpret_cast<float*>(data + head.row_scales_offset_bytes), attention.latent_rank, 1.0f);
    for (std::size_t i = 0; i < attention.plain_dims; ++i) {
      const std::size_t row = h * (attention.plain_dims + attention.value_dims) + i;
      keys.input_scales[h * head.padded_cols + i] =
          integers ? key_value.panel(row / kPanelRows).row_scales[row % kPanelRows] : 1.0f;
    }
  }
  Transposer(attention, key_value, keys).run();
  return keys;
}

}  // namespace sluice::runtime
