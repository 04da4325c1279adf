// The pool of KV pages and the page tables of a sequence.
//
// All pages are one reserved range of addresses, so taking a page is popping a free list and a step allocates
// nothing (docs/decisions/0017-one-engine-and-kv-pages.md). Positions are absolute: position p is always row
// p % kKvPageTokens of its page. Attention sums page by page, so its bits do not depend on where a prompt was
// cut into steps.

#include "runtime/memory/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::runtime {
namespace {

KvElement element_of(KvType type) {
  switch (type) {
    case KvType::f32: return KvElement::f32;
    case KvType::bf16: return KvElement::bf16;
    case KvType::q8: return KvElement::s8;
  }
  INVARIANT(!"a KvType without elements");
}

}  // namespace

KvPool::KvPool(KvLayout layout, std::uint64_t budget_bytes)
    : layout_(std::move(layout)),
      // A model may keep no position at all; its pages would have no bytes.
      page_count_(page_bytes() == 0 ? 0 : static_cast<std::size_t>(budget_bytes / page_bytes())) {
  // NORESERVE: a long context is rarely filled, and pages that are never written take no memory. mmap refuses
  // a length of 0.
  void* const memory = ::mmap(nullptr, std::max<std::size_t>(bytes(), 1), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  free_.reserve(page_count_);
  // The list is a stack: a page that was just given back is used again before one that has no memory yet.
  for (std::size_t page = page_count_; page-- > 0;) free_.push_back(memory_ + page * page_bytes());
}

KvPool::~KvPool() { ::munmap(memory_, std::max<std::size_t>(bytes(), 1)); }

std::byte* KvPool::take() {
  INVARIANT(!free_.empty());
  std::byte* const page = free_.back();
  free_.pop_back();
  return page;
}

void KvPool::give_back(std::byte* page) { free_.push_back(page); }

std::uint64_t KvPool::positions_max() const {
  const std::size_t tables = layout_.windows().size();
  return tables == 0 ? std::numeric_limits<std::uint64_t>::max() : page_count_ / tables * kKvPageTokens;
}

KvCache::KvCache(KvPool& pool, const KvLimits& limits) : pool_(pool) {
  const auto page_count = static_cast<std::size_t>(base::divide_up(limits.context_tokens, kKvPageTokens));
  for (const auto& window : pool.layout().windows())
    tables_.push_back({limits.keep_positions ? std::nullopt : window, std::vector<std::byte*>(page_count)});
}

/// The first page that `position` sees: a position sees itself and the window - 1 positions before it.
std::uint64_t KvCache::Table::first_page_seen(std::uint64_t position) const {
  if (!window_tokens || position + 1 <= *window_tokens) return 0;
  return (position + 1 - *window_tokens) / kKvPageTokens;
}

std::int64_t KvCache::pages_needed(std::uint64_t first, std::uint64_t end) const {
  std::int64_t count = 0;
  for (const Table& table : tables_) {
    for (std::uint64_t page = table.first_page; page < table.first_page_seen(first); ++page)
      count -= table.pages[page] != nullptr;
    for (std::uint64_t page = first / kKvPageTokens; page * kKvPageTokens < end; ++page)
      count += table.pages[page] == nullptr;
  }
  return count;
}

void KvCache::reserve(std::uint64_t first, std::uint64_t end) {
  // All tables give back first: pages_needed() has counted on these pages, and the pool may have no others.
  for (Table& table : tables_) {
    INVARIANT(end <= table.pages.size() * kKvPageTokens);
    for (; table.first_page < table.first_page_seen(first); ++table.first_page)
      give_back(table.pages[table.first_page]);
  }
  for (Table& table : tables_)
    for (std::uint64_t page = first / kKvPageTokens; page * kKvPageTokens < end; ++page)
      if (table.pages[page] == nullptr) table.pages[page] = pool_.take();
}

void KvCache::clear() {
  for (Table& table : tables_) {
    for (std::byte*& page : table.pages) give_back(page);
    table.first_page = 0;
  }
}

bool KvCache::truncate(std::uint64_t end) {
  for (const Table& table : tables_)
    if (table.first_page_seen(end) < table.first_page) return false;
  for (Table& table : tables_)
    for (std::uint64_t page = base::divide_up(end, kKvPageTokens); page < table.pages.size(); ++page)
      give_back(table.pages[page]);
  return true;
}

/// Where there is a page.
void KvCache::give_back(std::byte*& page) {
  if (page != nullptr) pool_.give_back(page);
  page = nullptr;
}

void KvCache::write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::uint64_t position,
                    const float* key, const float* value) {
  const KvPool::Head& head = pool_.head(layer, kv_head);
  std::byte* const page = tables_[head.table].pages[position / kKvPageTokens];
  const std::size_t row = position % kKvPageTokens;
  const std::size_t stride = head.stride;
  const std::size_t value_stride = head.value_stride;
  std::byte* const key_row = page + head.keys_offset_bytes + row * head.row_bytes;
  std::byte* const value_row = page + head.values_offset_bytes() + row * head.value_row_bytes;
  switch (pool_.type()) {
    case KvType::f32:
      std::memcpy(key_row, key, stride * sizeof(float));
      std::memcpy(value_row, value, value_stride * sizeof(float));
      break;
    case KvType::bf16:
      kernels.to_bf16(key, stride, reinterpret_cast<std::uint16_t*>(key_row));
      kernels.to_bf16(value, value_stride, reinterpret_cast<std::uint16_t*>(value_row));
      break;
    // One scale a row: the kernel for a chunk of activations takes the whole row as one chunk.
    case KvType::q8: {
      auto* const key_scales = reinterpret_cast<float*>(page + head.key_scales_offset_bytes);
      auto* const value_scales = reinterpret_cast<float*>(page + head.value_scales_offset_bytes());
      std::int32_t sum = 0;  // the kernel also adds up groups of codes, which attention does not use
      kernels.quantize_chunk(key, stride, reinterpret_cast<std::int8_t*>(key_row), &key_scales[row], &sum, 0);
      kernels.quantize_chunk(value, value_stride, reinterpret_cast<std::int8_t*>(value_row),
                             &value_scales[row], &sum, 0);
      break;
    }
  }
}

KeyValueView KvCache::view(std::size_t layer, std::size_t kv_head) const {
  const KvPool::Head& head = pool_.head(layer, kv_head);
  return {
      .pages = tables_[head.table].pages.data(),
      .keys_offset_bytes = head.keys_offset_bytes,
      .values_offset_bytes = head.values_offset_bytes(),
      .key_scales_offset_bytes = head.key_scales_offset_bytes,
      .value_scales_offset_bytes = head.value_scales_offset_bytes(),
      .stride = head.stride,
      .value_stride = head.value_stride,
      .element = element_of(pool_.type()),
  };
}

// This order is the file format of prompt caches (runtime/generate/prompt_cache.h): changing it needs a new
// version there.
std::vector<KvCache::Column> KvCache::columns() const {
  std::vector<Column> all;
  for (const KvPool::Head& head : pool_.heads())
    all.push_back({head.table, head.keys_offset_bytes, head.row_bytes});
  for (const KvPool::Head& head : pool_.heads())
    all.push_back({head.table, head.values_offset_bytes(), head.value_row_bytes});
  if (pool_.type() != KvType::q8) return all;
  for (const KvPool::Head& head : pool_.heads())
    all.push_back({head.table, head.key_scales_offset_bytes, sizeof(float)});
  for (const KvPool::Head& head : pool_.heads())
    all.push_back({head.table, head.value_scales_offset_bytes(), sizeof(float)});
  return all;
}

std::span<std::byte> KvCache::elements(const Column& column, std::uint64_t position) const {
  const std::size_t row = position % kKvPageTokens;
  std::byte* const page = tables_[column.table].pages[position / kKvPageTokens];
  return {page + column.offset_bytes + row * column.element_bytes,
          (kKvPageTokens - row) * column.element_bytes};
}

}  // namespace sluice::runtime
