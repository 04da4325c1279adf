#pragma once
// Keys and values of past positions, in pages that all sequences of an engine share. kv_layout.h says what a
// page holds. A sequence has tables of pages by position / kKvPageTokens, one for each part of the layout. A
// sequence returns pages to the pool once all their positions have left the window of their layers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "runtime/memory/kv_layout.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// The memory of all pages of an engine. Used by one thread at a time.
class KvPool final {
 public:
  using Head = KvLayout::Head;

  /// Reserves address space for `budget_bytes` in whole pages; the kernel provides memory as positions are
  /// written. Throws std::bad_alloc when it refuses.
  KvPool(KvLayout layout, std::uint64_t budget_bytes);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  [[nodiscard]] const KvLayout& layout() const { return layout_; }
  [[nodiscard]] KvType type() const { return layout_.type(); }
  [[nodiscard]] const Head& head(std::size_t layer, std::size_t kv_head) const {
    return layout_.head(layer, kv_head);
  }
  [[nodiscard]] std::span<const Head> heads() const { return layout_.heads(); }  ///< of all layers
  [[nodiscard]] std::uint64_t page_bytes() const { return layout_.page_bytes(); }
  [[nodiscard]] std::uint64_t bytes() const { return page_bytes() * page_count_; }
  [[nodiscard]] std::size_t page_count() const { return page_count_; }
  [[nodiscard]] std::size_t free_page_count() const { return free_.size(); }
  /// Positions that one sequence can hold when no window leaves any of them behind.
  [[nodiscard]] std::uint64_t positions_max() const;

  /// A page, whose content is undefined. There must be a free one.
  [[nodiscard]] std::byte* take();
  void give_back(std::byte* page);

 private:
  KvLayout layout_;
  std::size_t page_count_;
  std::byte* memory_;
  std::vector<std::byte*> free_;  // the next one to take is the last
};

/// The pages of one sequence. Different heads may be written by different threads; the rest is used by one
/// thread at a time.
class KvCache final {
 public:
  KvCache(KvPool& pool, const KvLimits& limits);
  ~KvCache() { clear(); }
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

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

  /// Writes a head's key and value, its strides of f32, of one position.
  void write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::uint64_t position,
             const float* key, const float* value);

  [[nodiscard]] KeyValueView view(std::size_t layer, std::size_t kv_head) const;

  /// One of the arrays that a prompt cache keeps: one element a position.
  struct Column {
    std::size_t table;
    std::size_t offset_bytes;   ///< of the page's first position in the page
    std::size_t element_bytes;  ///< of one position
  };
  /// Keys of all heads, then values of all heads, then, with q8, the scales of keys and of values.
  [[nodiscard]] std::vector<Column> columns() const;
  /// The elements of `column` from `position` to the end of its page.
  [[nodiscard]] std::span<std::byte> elements(const Column& column, std::uint64_t position) const;

  [[nodiscard]] const KvPool& pool() const { return pool_; }

 private:
  /// The pages of some heads.
  struct Table {
    std::optional<std::uint64_t> window_tokens;  // absent also where all positions are kept
    std::vector<std::byte*> pages;               // [position / kKvPageTokens]; null where there is none
    std::uint64_t first_page = 0;                // pages before it were given back

    [[nodiscard]] std::uint64_t first_page_seen(std::uint64_t position) const;
  };

  void give_back(std::byte*& page);

  KvPool& pool_;
  std::vector<Table> tables_;  // as in the pool's layout
};

}  // namespace sluice::runtime
