// The pool of KV pages and the page table of a sequence.
//
// All pages are one reserved range of addresses, so taking a page is popping a free list and a step allocates
// nothing (docs/decisions/0017-one-engine-and-kv-pages.md). Positions are absolute: position p is always row
// p % kKvPageTokens of its page. Attention sums page by page, so its bits do not depend on where a prompt was
// cut into steps.

#include "runtime/memory/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "base/bytes.h"
#include "base/invariant.h"

namespace sluice::runtime {
namespace {

std::size_t element_bytes(KvType type) {
  switch (type) {
    case KvType::f32: return 4;
    case KvType::bf16: return 2;
    case KvType::q8: return 1;
  }
  INVARIANT(!"a KvType without size");
}

std::size_t scale_bytes(KvType type) { return type == KvType::q8 ? sizeof(float) : 0; }

KvElement element_of(KvType type) {
  switch (type) {
    case KvType::f32: return KvElement::f32;
    case KvType::bf16: return KvElement::bf16;
    case KvType::q8: return KvElement::s8;
  }
  INVARIANT(!"a KvType without elements");
}

std::size_t stride_of(const LayerShape& layer) {
  return static_cast<std::size_t>(base::align_up(layer.key_values().width, kLanes));
}

}  // namespace

std::string_view to_string(KvType type) {
  switch (type) {
    case KvType::f32: return "f32";
    case KvType::bf16: return "bf16";
    case KvType::q8: return "q8";
  }
  INVARIANT(!"a KvType without name");
}

std::optional<KvType> parse_kv_type(std::string_view text) {
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8})
    if (to_string(type) == text) return type;
  return std::nullopt;
}

std::optional<std::uint64_t> KvPool::page_bytes(const DecoderShape& shape, KvType type) {
  std::uint64_t total = 0;
  for (const LayerShape& layer : shape.layers) {
    const std::uint64_t row = stride_of(layer) * element_bytes(type) + scale_bytes(type);
    const auto bytes = base::checked_mul(2 * layer.key_values().heads, row * kKvPageTokens);
    const auto sum = bytes ? base::checked_add(total, *bytes) : std::nullopt;
    if (!sum || *sum >= std::uint64_t{1} << 63) return std::nullopt;
    total = *sum;
  }
  return total;
}

KvPool::KvPool(const DecoderShape& shape, KvType type, std::uint64_t budget_bytes)
    : type_(type),
      page_bytes_(page_bytes(shape, type).value()),
      page_count_(static_cast<std::size_t>(budget_bytes / page_bytes_)) {
  std::size_t offset_bytes = 0;
  for (const LayerShape& layer : shape.layers) {
    first_head_.push_back(heads_.size());
    const std::size_t stride = stride_of(layer);
    for (std::uint64_t head = 0; head < layer.key_values().heads; ++head) {
      heads_.push_back({stride, stride * element_bytes(type), offset_bytes, 0});
      offset_bytes += 2 * kKvPageTokens * heads_.back().row_bytes;
    }
  }
  for (Head& head : heads_) {
    head.key_scales_offset_bytes = offset_bytes;
    offset_bytes += 2 * kKvPageTokens * scale_bytes(type);
  }
  // NORESERVE: a long context is rarely filled, and pages that are never written take no memory. mmap refuses
  // a length of 0.
  void* const memory = ::mmap(nullptr, std::max<std::size_t>(bytes(), 1), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  free_.reserve(page_count_);
  // The list is a stack: a page that was just given back is used again before one that has no memory yet.
  for (std::size_t page = page_count_; page-- > 0;) free_.push_back(memory_ + page * page_bytes_);
}

KvPool::~KvPool() { ::munmap(memory_, std::max<std::size_t>(bytes(), 1)); }

std::byte* KvPool::take() {
  INVARIANT(!free_.empty());
  std::byte* const page = free_.back();
  free_.pop_back();
  return page;
}

void KvPool::give_back(std::byte* page) { free_.push_back(page); }

KvCache::KvCache(KvPool& pool, const DecoderShape& shape, const Limits& limits)
    : pool_(pool),
      window_tokens_(limits.keep_positions ? std::nullopt : shape.window_tokens()),
      pages_(static_cast<std::size_t>(base::divide_up(limits.context_tokens, kKvPageTokens))) {}

std::uint64_t KvCache::page_count_max(const DecoderShape& shape, const Limits& limits) {
  const std::uint64_t all =
      limits.context_tokens / kKvPageTokens + (limits.context_tokens % kKvPageTokens != 0);
  const auto window_tokens = shape.window_tokens();
  if (!window_tokens || limits.keep_positions) return all;
  // While the last token of a step is written, the first one still sees its whole window, so window + step -
  // 1 positions are held. n consecutive positions touch at most (n - 1) / page + 1 pages, the quotient
  // rounded up: one page more than they fill, when they begin at the last row of a page.
  const auto seen = base::checked_add(*window_tokens, limits.step_tokens);
  return seen ? std::min(all, (*seen + kKvPageTokens - 3) / kKvPageTokens + 1) : all;
}

/// The first page that `position` sees: a position sees itself and the window - 1 positions before it.
std::uint64_t KvCache::first_page_seen(std::uint64_t position) const {
  if (!window_tokens_ || position + 1 <= *window_tokens_) return 0;
  return (position + 1 - *window_tokens_) / kKvPageTokens;
}

std::int64_t KvCache::pages_needed(std::uint64_t first, std::uint64_t end) const {
  std::int64_t count = 0;
  for (std::uint64_t page = first_page_; page < first_page_seen(first); ++page)
    count -= pages_[page] != nullptr;
  for (std::uint64_t page = first / kKvPageTokens; page * kKvPageTokens < end; ++page)
    count += pages_[page] == nullptr;
  return count;
}

void KvCache::reserve(std::uint64_t first, std::uint64_t end) {
  INVARIANT(end <= pages_.size() * kKvPageTokens);
  // Gives back first: pages_needed() has counted on these pages, and the pool may have no others.
  for (; first_page_ < first_page_seen(first); ++first_page_) {
    if (pages_[first_page_] == nullptr) continue;
    pool_.give_back(pages_[first_page_]);
    pages_[first_page_] = nullptr;
  }
  for (std::uint64_t page = first / kKvPageTokens; page * kKvPageTokens < end; ++page)
    if (pages_[page] == nullptr) pages_[page] = pool_.take();
}

void KvCache::clear() {
  for (std::byte*& page : pages_) {
    if (page != nullptr) pool_.give_back(page);
    page = nullptr;
  }
  first_page_ = 0;
}

bool KvCache::truncate(std::uint64_t end) {
  if (first_page_seen(end) < first_page_) return false;
  for (std::uint64_t page = base::divide_up(end, kKvPageTokens); page < pages_.size(); ++page) {
    if (pages_[page] != nullptr) pool_.give_back(pages_[page]);
    pages_[page] = nullptr;
  }
  return true;
}

void KvCache::write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::uint64_t position,
                    const float* key, const float* value) {
  std::byte* const page = pages_[position / kKvPageTokens];
  const std::size_t row = position % kKvPageTokens;
  const KvPool::Head& head = pool_.head(layer, kv_head);
  const std::size_t stride = head.stride;
  std::byte* const key_row = page + head.keys_offset_bytes + row * head.row_bytes;
  std::byte* const value_row = page + head.values_offset_bytes() + row * head.row_bytes;
  switch (pool_.type()) {
    case KvType::f32:
      std::memcpy(key_row, key, stride * sizeof(float));
      std::memcpy(value_row, value, stride * sizeof(float));
      break;
    case KvType::bf16:
      kernels.to_bf16(key, stride, reinterpret_cast<std::uint16_t*>(key_row));
      kernels.to_bf16(value, stride, reinterpret_cast<std::uint16_t*>(value_row));
      break;
    // One scale a row: the kernel for a chunk of activations takes the whole row as one chunk.
    case KvType::q8: {
      auto* const key_scales = reinterpret_cast<float*>(page + head.key_scales_offset_bytes);
      auto* const value_scales = reinterpret_cast<float*>(page + head.value_scales_offset_bytes());
      std::int32_t sum = 0;  // the kernel also adds up groups of codes, which attention does not use
      kernels.quantize_chunk(key, stride, reinterpret_cast<std::int8_t*>(key_row), &key_scales[row], &sum, 0);
      kernels.quantize_chunk(value, stride, reinterpret_cast<std::int8_t*>(value_row), &value_scales[row],
                             &sum, 0);
      break;
    }
  }
}

KeyValueView KvCache::view(std::size_t layer, std::size_t kv_head) const {
  const KvPool::Head& head = pool_.head(layer, kv_head);
  return {
      .pages = pages_.data(),
      .keys_offset_bytes = head.keys_offset_bytes,
      .values_offset_bytes = head.values_offset_bytes(),
      .key_scales_offset_bytes = head.key_scales_offset_bytes,
      .value_scales_offset_bytes = head.value_scales_offset_bytes(),
      .stride = head.stride,
      .element = element_of(pool_.type()),
  };
}

// This order is the file format of prompt caches (runtime/generate/prompt_cache.h): changing it needs a new
// version there.
std::vector<KvCache::Column> KvCache::columns() const {
  std::vector<Column> all;
  for (const KvPool::Head& head : pool_.heads()) all.push_back({head.keys_offset_bytes, head.row_bytes});
  for (const KvPool::Head& head : pool_.heads()) all.push_back({head.values_offset_bytes(), head.row_bytes});
  if (pool_.type() != KvType::q8) return all;
  for (const KvPool::Head& head : pool_.heads()) all.push_back({head.key_scales_offset_bytes, sizeof(float)});
  for (const KvPool::Head& head : pool_.heads())
    all.push_back({head.value_scales_offset_bytes(), sizeof(float)});
  return all;
}

std::span<std::byte> KvCache::elements(const Column& column, std::uint64_t position) const {
  const std::size_t row = position % kKvPageTokens;
  std::byte* const page = pages_[position / kKvPageTokens];
  return {page + column.offset_bytes + row * column.element_bytes,
          (kKvPageTokens - row) * column.element_bytes};
}

}  // namespace sluice::runtime
