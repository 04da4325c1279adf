#pragma once
// Keys and values of past positions, in pages that all sequences of an engine share.
//
// A page holds kKvPageTokens positions of all layers and key/value heads:
//
//   keys    [layer][kv_head][position in page][stride]
//   values  [layer][kv_head][position in page][stride]      directly behind the head's keys
//   scales  [layer][kv_head][keys, values][position in page]   f32, q8 only
//
// Heads of different layers may differ in number and width. The stride is a head's width padded to kLanes.
//
// Elements are f32, bf16, or s8 codes with one f32 scale a row (largest magnitude / 127, rounded to nearest
// even). A sequence has a table of pages by position / kKvPageTokens. Where the model has a sliding window, a
// sequence returns pages to the pool once all their positions have left the window.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "runtime/kernels/kernels.h"
#include "runtime/memory/supported_model.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// The memory of all pages of an engine. Used by one thread at a time.
class KvPool final {
 public:
  /// Reserves address space for `budget_bytes` in whole pages; the kernel provides memory as positions are
  /// written. Throws std::bad_alloc when it refuses.
  KvPool(const DecoderShape& shape, KvType type, std::uint64_t budget_bytes);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  /// The size of one page. Absent when it does not fit 63 bits.
  [[nodiscard]] static std::optional<std::uint64_t> page_bytes(const DecoderShape& shape, KvType type);

  [[nodiscard]] KvType type() const { return type_; }
  /// Where a head's rows are within each page.
  struct Head {
    std::size_t stride;     ///< elements of a row
    std::size_t row_bytes;  ///< of a key or a value, without its scale
    std::size_t keys_offset_bytes;
    std::size_t key_scales_offset_bytes;  ///< q8 only, like the scales of the values behind them

    [[nodiscard]] std::size_t values_offset_bytes() const {
      return keys_offset_bytes + kKvPageTokens * row_bytes;
    }
    [[nodiscard]] std::size_t value_scales_offset_bytes() const {
      return key_scales_offset_bytes + kKvPageTokens * sizeof(float);
    }
  };
  [[nodiscard]] const Head& head(std::size_t layer, std::size_t kv_head) const {
    return heads_[first_head_[layer] + kv_head];
  }
  [[nodiscard]] const std::vector<Head>& heads() const { return heads_; }  ///< of all layers
  [[nodiscard]] std::uint64_t page_bytes() const { return page_bytes_; }
  [[nodiscard]] std::uint64_t bytes() const { return page_bytes_ * page_count_; }
  [[nodiscard]] std::size_t page_count() const { return page_count_; }
  [[nodiscard]] std::size_t free_page_count() const { return free_.size(); }

  /// A page, whose content is undefined. There must be a free one.
  [[nodiscard]] std::byte* take();
  void give_back(std::byte* page);

 private:
  KvType type_;
  std::vector<Head> heads_;
  std::vector<std::size_t> first_head_;  // [layer] index into heads_
  std::uint64_t page_bytes_;
  std::size_t page_count_;
  std::byte* memory_;
  std::vector<std::byte*> free_;  // the next one to take is the last
};

/// The pages of one sequence. Different heads may be written by different threads; the rest is used by one
/// thread at a time.
class KvCache final {
 public:
  struct Limits {
    std::uint64_t context_tokens;  ///< positions are below this
    std::uint64_t step_tokens;     ///< positions that are reserved at once, at most
    /// Positions before the window are kept as well: for a prompt cache.
    bool keep_positions = false;
  };

  KvCache(KvPool& pool, const DecoderShape& shape, const Limits& limits);
  ~KvCache() { clear(); }
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  /// The most pages that a sequence can hold at the same time.
  [[nodiscard]] static std::uint64_t page_count_max(const DecoderShape& shape, const Limits& limits);

  /// Pages that reserve() would take from the pool, less those that it would give back; negative when it
  /// gives back more.
  [[nodiscard]] std::int64_t pages_needed(std::uint64_t first, std::uint64_t end) const;
  /// Takes the pages of positions [first, end), and gives back those that no position from `first` on can
  /// see. The pool must have as many as pages_needed() says.
  void reserve(std::uint64_t first, std::uint64_t end);
  /// Gives back all pages.
  void clear();
  /// Gives back the pages of positions from `end` on. False, and nothing given back, when a position that
  /// follows would see positions that the window has left behind.
  [[nodiscard]] bool truncate(std::uint64_t end);

  /// Writes a head's key and value [its stride] f32 of one position.
  void write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::uint64_t position,
             const float* key, const float* value);

  [[nodiscard]] KeyValueView view(std::size_t layer, std::size_t kv_head) const;

  /// One of the arrays that a prompt cache keeps: one element a position.
  struct Column {
    std::size_t offset_bytes;   ///< of the page's first position in the page
    std::size_t element_bytes;  ///< of one position
  };
  /// Keys of all heads, then values of all heads, then, with q8, the scales of keys and of values.
  [[nodiscard]] std::vector<Column> columns() const;
  /// The elements of `column` from `position` to the end of its page.
  [[nodiscard]] std::span<std::byte> elements(const Column& column, std::uint64_t position) const;

  [[nodiscard]] const KvPool& pool() const { return pool_; }

 private:
  [[nodiscard]] std::uint64_t first_page_seen(std::uint64_t position) const;

  KvPool& pool_;
  std::optional<std::uint64_t> window_tokens_;  // absent also where all positions are kept
  std::vector<std::byte*> pages_;               // [position / kKvPageTokens]; null where there is none
  std::uint64_t first_page_ = 0;                // pages before it were given back
};

}  // namespace sluice::runtime
