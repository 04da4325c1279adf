#pragma once
// Where keys and values of a position lie: in which pages, and where in them.
//
// Layers with the same sliding window form a group, and a group leaves positions behind as a whole: a layer
// with a window keeps little more than its window, beside layers that keep every position (gpt-oss, Gemma-4).
// All pages of an engine have one size, so that any free page serves any group. A group therefore spreads its
// heads over as many pages for kKvPageTokens positions as it needs, and a sequence has a table of pages for
// each of them. A model whose layers have one window, or none, has one table: a page holds all its layers.
//
//   page    keys    [head of the table][position in page][stride]
//           values  [head of the table][position in page][value stride]   directly behind the head's keys
//           scales  [head of the table][keys, values][position in page]   f32, q8 only
//
// Heads of different layers may differ in number and width. The strides are the widths of a key and of a
// value, padded to kLanes. Latent attention has one head, whose keys are the latents, which are values as
// well; in the place of the values are the rotary parts of the keys.
//
// Elements are f32, bf16, or s8 codes with one f32 scale a row (largest magnitude / 127, rounded to nearest
// even).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "runtime/memory/supported_model.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// What a sequence may hold.
struct KvLimits {
  std::uint64_t context_tokens;  ///< positions are below this
  std::uint64_t step_tokens;     ///< positions that are reserved at once, at most
  /// Positions before the window are kept as well: for a prompt cache.
  bool keep_positions = false;
};

/// Immutable.
class KvLayout final {
 public:
  /// Absent when the keys and values of kKvPageTokens positions do not fit 63 bits.
  [[nodiscard]] static std::optional<KvLayout> make(const DecoderShape& shape, KvType type);

  /// Where a head's rows are within each page of its table.
  struct Head {
    std::size_t table = 0;
    std::size_t stride = 0;           ///< elements of a key
    std::size_t row_bytes = 0;        ///< of a key, without its scale
    std::size_t value_stride = 0;     ///< elements of a value
    std::size_t value_row_bytes = 0;  ///< of a value, without its scale
    std::size_t keys_offset_bytes = 0;
    std::size_t key_scales_offset_bytes = 0;  ///< q8 only, like the scales of the values behind them

    [[nodiscard]] std::size_t values_offset_bytes() const {
      return keys_offset_bytes + kKvPageTokens * row_bytes;
    }
    [[nodiscard]] std::size_t value_scales_offset_bytes() const {
      return key_scales_offset_bytes + kKvPageTokens * sizeof(float);
    }
  };

  [[nodiscard]] KvType type() const { return type_; }
  [[nodiscard]] const Head& head(std::size_t layer, std::size_t kv_head) const {
    return heads_[first_head_[layer] + kv_head];
  }
  [[nodiscard]] std::span<const Head> heads() const { return heads_; }  ///< of all layers, in their order
  /// Positions that the layers of each table see, the last one included; absent: all of them. A model without
  /// keys and values has no table.
  [[nodiscard]] std::span<const std::optional<std::uint64_t>> windows() const { return windows_; }
  [[nodiscard]] std::uint64_t page_bytes() const { return page_bytes_; }

  /// The most pages that a sequence can hold at the same time, over all its tables.
  [[nodiscard]] std::uint64_t page_count_max(const KvLimits& limits) const;

 private:
  struct Group;
  explicit KvLayout(KvType type) : type_(type) {}
  [[nodiscard]] Head head_of(const KeyValueShape& shape) const;
  [[nodiscard]] static std::vector<Group> groups_of(const DecoderShape& shape);
  [[nodiscard]] std::uint64_t rows_bytes(const Head& head) const;
  [[nodiscard]] std::uint64_t scales_bytes() const;
  void place(const std::vector<Group>& groups);
  void place_scales();

  KvType type_;
  std::vector<Head> heads_;
  std::vector<std::size_t> first_head_;  // [layer] index into heads_
  std::vector<std::optional<std::uint64_t>> windows_;
  std::uint64_t page_bytes_ = 0;
};

}  // namespace sluice::runtime
