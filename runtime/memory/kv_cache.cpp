#include "runtime/memory/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "runtime/memory/available_memory.h"

namespace sluice::runtime {
namespace {

constexpr std::uint64_t kPositionsMax = std::uint64_t{1} << 62;

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

std::optional<std::uint64_t> KvCache::capacity(const format::ModelParams& params, const Shape& shape) {
  std::uint64_t positions = shape.context_tokens;
  // The first token of a chunk still looks back over the whole window when the last one has been written.
  if (params.sliding_window && !shape.keep_positions) {
    const auto seen = base::checked_add(*params.sliding_window, shape.chunk_tokens);
    positions = std::min(positions, seen.value_or(positions));
  }
  if (positions > kPositionsMax) return std::nullopt;
  return base::align_up(positions, kAttentionBlock);
}

std::optional<std::uint64_t> KvCache::size_bytes(const format::ModelParams& params, std::uint64_t capacity,
                                                 KvType type) {
  const std::uint64_t row = base::align_up(params.head_dim, kLanes) * element_bytes(type) + scale_bytes(type);
  // The parameters' product fits: each is bounded, and their weights are in a file.
  const auto size = base::checked_mul(2 * params.n_layers * params.n_kv_heads * row, capacity);
  return size && *size < std::uint64_t{1} << 63 ? size : std::nullopt;
}

KvCache::KvCache(const format::ModelParams& params, const Shape& shape, KvType type)
    : type_(type),
      stride_(base::align_up(params.head_dim, kLanes)),
      kv_heads_(params.n_kv_heads),
      heads_total_(params.n_layers * params.n_kv_heads),
      row_bytes_(stride_ * element_bytes(type)) {
  const std::uint64_t available = available_memory_bytes();
  const auto rows = capacity(params, shape);
  const auto needed = rows ? size_bytes(params, *rows, type) : std::nullopt;
  if (!needed || *needed > available) {
    throw base::Error(base::ErrorKind::usage,
                      "a context of " + std::to_string(shape.context_tokens) + " tokens needs " +
                          (needed ? base::to_human_bytes(*needed) : std::string("more than 8 EiB")) +
                          " of memory for keys and values, " + base::to_human_bytes(available) + " are free");
  }
  capacity_ = static_cast<std::size_t>(*rows);
  half_bytes_ = heads_total_ * capacity_ * row_bytes_;
  data_.reset(static_cast<std::byte*>(std::calloc(static_cast<std::size_t>(*needed), 1)));
  if (data_ == nullptr) throw std::bad_alloc();
  scales_ = data_.get() + 2 * half_bytes_;
}

void KvCache::write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::size_t position,
                    const float* key, const float* value) {
  const std::size_t row = first_row(layer, kv_head) + position % capacity_;
  std::byte* key_row = data_.get() + row * row_bytes_;
  std::byte* value_row = key_row + half_bytes_;
  std::int32_t sum = 0;  // of groups of codes, which nobody needs here
  switch (type_) {
    case KvType::f32:
      std::memcpy(key_row, key, stride_ * sizeof(float));
      std::memcpy(value_row, value, stride_ * sizeof(float));
      break;
    case KvType::bf16:
      kernels.to_bf16(key, stride_, reinterpret_cast<std::uint16_t*>(key_row));
      kernels.to_bf16(value, stride_, reinterpret_cast<std::uint16_t*>(value_row));
      break;
    case KvType::q8:
      kernels.quantize_chunk(key, stride_, reinterpret_cast<std::int8_t*>(key_row), scale(row), &sum, 0);
      kernels.quantize_chunk(value, stride_, reinterpret_cast<std::int8_t*>(value_row),
                             scale(heads_total_ * capacity_ + row), &sum, 0);
      break;
  }
}

KeyValueView KvCache::view(std::size_t layer, std::size_t kv_head) const {
  const std::size_t row = first_row(layer, kv_head);
  const std::byte* keys = data_.get() + row * row_bytes_;
  return {
      .keys = keys,
      .values = keys + half_bytes_,
      .key_scales = scale(row),
      .value_scales = scale(heads_total_ * capacity_ + row),
      .stride = stride_,
      .capacity = capacity_,
      .element = element_of(type_),
  };
}

std::vector<KvCache::Region> KvCache::regions() const {
  std::vector<Region> all;
  for (std::size_t head = 0; head < 2 * heads_total_; ++head)
    all.push_back({data_.get() + head * capacity_ * row_bytes_, row_bytes_});
  if (type_ == KvType::q8) {
    for (std::size_t head = 0; head < 2 * heads_total_; ++head)
      all.push_back({scales_ + head * capacity_ * sizeof(float), sizeof(float)});
  }
  return all;
}

}  // namespace sluice::runtime
