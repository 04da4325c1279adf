#pragma once
// Random weight matrices in tiles, written by the definition in format/tile.h, one code at a time.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "base/bytes.h"
#include "format/tile.h"
#include "runtime/kernels/products.h"

namespace sluice::tests {

struct RandomMatrix {
  RandomMatrix(format::TileType type, std::uint64_t rows, std::uint64_t cols, std::uint64_t seed)
      : layout(type, rows, cols), bytes(layout.total_bytes + 64) {
    std::mt19937_64 random(seed);
    for (std::uint64_t r = 0; r < layout.padded_rows; ++r) {
      for (std::uint64_t c = 0; c < layout.padded_cols; ++c) set_code(r, c, random);
      if (format::has_row_scales(type)) {
        const float scale = r < rows ? static_cast<float>(random() % 1000 + 1) * 1e-5f : 0.0f;
        base::store_le(memory(), layout.row_scales_offset_bytes + r * 4, scale);
      }
    }
  }

  [[nodiscard]] runtime::Matrix matrix() const { return {layout, data()}; }
  [[nodiscard]] base::Bytes view() const { return {data(), layout.total_bytes}; }

  /// Not bf16: every weight inside the matrix becomes `code`, or, every other input, its opposite as far as
  /// there is one; every sub-scale `sub_scale`. mx4: `code` is the stored one, and `sub_scale` the exponent.
  void fill(int code, bool alternate, int sub_scale) {
    const base::MutableBytes out = memory();
    const int largest = layout.type == format::TileType::q8   ? 127
                        : layout.type == format::TileType::q6 ? 31
                                                              : 7;
    const int opposite = std::min(-code, largest);
    std::fill_n(out.begin(), layout.row_scales_offset_bytes, std::byte{0});
    for (std::uint64_t r = 0; r < layout.rows; ++r) {
      for (std::uint64_t c = 0; c < layout.cols; ++c) {
        const int value = alternate && c % 2 == 1 ? opposite : code;
        if (layout.type == format::TileType::mx4) {
          set_mx4_code(r, c, static_cast<unsigned>(alternate && c % 2 == 1 ? code ^ 8 : code));
          set_exponent(r, c, static_cast<unsigned>(sub_scale));
          continue;
        }
        std::byte& byte = out[layout.code_offset_bytes(r, c)];
        if (layout.type == format::TileType::q8) {
          byte = static_cast<std::byte>(value);
          continue;
        }
        if (layout.type == format::TileType::q6) {
          put_q6(r, c, value);
          if (c % format::kGroupCols == 0)
            out[layout.magnitude_offset_bytes(r, c)] |=
                static_cast<std::byte>((sub_scale - 1) << r % format::kPanelRows / 16 * 2);
          continue;
        }
        byte |= static_cast<std::byte>((value + 8) << (format::TileLayout::in_high_nibble(c) ? 4 : 0));
        if (c % format::kGroupCols == 0)
          out[layout.magnitude_offset_bytes(r, c)] |=
              static_cast<std::byte>((sub_scale - 1) << (r % 64 < 32 ? 0 : 4));
      }
    }
  }

  /// mx4: sets a code, and the exponent of a block.
  void set_mx4_code(std::uint64_t r, std::uint64_t c, unsigned code) {
    std::byte& byte = memory()[layout.code_offset_bytes(r, c)];
    const bool high = format::TileLayout::in_high_nibble(c);
    byte = (byte & std::byte(high ? 0x0F : 0xF0)) | std::byte(high ? code << 4 : code);
  }
  void set_exponent(std::uint64_t r, std::uint64_t c, unsigned exponent) {
    memory()[layout.exponent_offset_bytes(r, c)] = std::byte(exponent);
  }

  format::TileLayout layout;

 private:
  // Kernels may ask for 64-byte alignment, as the container's mapping has it.
  [[nodiscard]] const std::byte* data() const {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    return bytes.data() + (64 - address % 64) % 64;
  }
  [[nodiscard]] base::MutableBytes memory() { return {const_cast<std::byte*>(data()), layout.total_bytes}; }

  void set_code(std::uint64_t r, std::uint64_t c, std::mt19937_64& random) {
    const bool inside = r < layout.rows && c < layout.cols;
    const base::MutableBytes out = memory();
    switch (layout.type) {
      case format::TileType::bf16: {
        const auto value = inside ? static_cast<float>(random() % 2001) * 1e-3f - 1.0f : 0.0f;
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        base::store_le(out, layout.code_offset_bytes(r, c), static_cast<std::uint16_t>(bits >> 16));
        break;
      }
      case format::TileType::q8:
        // All 256 values, -128 too: the kernels must not depend on what the quantizer leaves out.
        base::store_le(out, layout.code_offset_bytes(r, c), static_cast<std::uint8_t>(inside ? random() : 0));
        break;
      case format::TileType::q6: set_q6(r, c, inside, random); break;
      case format::TileType::q4: set_q4(r, c, inside, random); break;
      case format::TileType::mx4:
        if (!inside) break;
        set_mx4_code(r, c, static_cast<unsigned>(random() % 16));
        if (c % format::kMx4BlockCols == 0) set_exponent(r, c, static_cast<unsigned>(117 + random() % 4));
        break;
    }
  }

  void put_q6(std::uint64_t r, std::uint64_t c, int code) {
    const base::MutableBytes out = memory();
    const auto stored = static_cast<unsigned>(code + 32);
    out[layout.code_offset_bytes(r, c)] |=
        static_cast<std::byte>((stored & 15) << (format::TileLayout::in_high_nibble(c) ? 4 : 0));
    out[layout.high_bits_offset_bytes(r, c)] |=
        static_cast<std::byte>(stored >> 4 << format::TileLayout::high_bits_shift(r, c));
  }

  void set_q6(std::uint64_t r, std::uint64_t c, bool inside, std::mt19937_64& random) {
    if (c % format::kGroupCols == 0)
      memory()[layout.magnitude_offset_bytes(r, c)] |=
          static_cast<std::byte>(random() % 4 << r % format::kPanelRows / 16 * 2);
    put_q6(r, c, static_cast<int>(inside ? random() % 64 : 32) - 32);
  }

  void set_q4(std::uint64_t r, std::uint64_t c, bool inside, std::mt19937_64& random) {
    std::byte* out = memory().data();
    if (c % format::kGroupCols == 0) {
      const auto magnitude = static_cast<unsigned>(random() % 16);
      const bool negative = random() % 2 == 0;
      out[layout.magnitude_offset_bytes(r, c)] |= std::byte(r % 64 < 32 ? magnitude : magnitude << 4);
      if (negative) out[layout.sign_offset_bytes(r, c)] |= std::byte(1u << r % 8);
    }
    auto code = static_cast<int>(inside ? random() % 16 : 8) - 8;
    if (code == -8 && format::sub_scale_at(layout, view(), r, c) == -16) code = 7;
    const auto nibble = static_cast<unsigned>(code + 8);
    out[layout.code_offset_bytes(r, c)] |=
        std::byte(format::TileLayout::in_high_nibble(c) ? nibble << 4 : nibble);
  }

  std::vector<std::byte> bytes;
};

}  // namespace sluice::tests
