#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace sluice::runtime {
namespace {

std::size_t element_bytes(KvType type) { return type == KvType::f32 ? 4 : 2; }

std::uint64_t read_number(const char* path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? number : std::numeric_limits<std::uint64_t>::max();  // "max" is no number
}

}  // namespace

std::uint64_t available_memory_bytes() {
  std::uint64_t available = std::numeric_limits<std::uint64_t>::max();
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::uint64_t kibibytes = 0;
  for (std::string unit; file >> key >> kibibytes; std::getline(file, unit))
    if (key == "MemAvailable:") available = kibibytes * 1024;
  const std::uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
  const std::uint64_t used = read_number("/sys/fs/cgroup/memory.current");
  if (limit != std::numeric_limits<std::uint64_t>::max() && used <= limit)
    available = std::min(available, limit - used);
  return available;
}

std::optional<std::uint64_t> KvCache::size_bytes(const format::ModelParams& params,
                                                 std::uint64_t context_tokens, KvType type) {
  const std::uint64_t row = base::align_up(params.head_dim, kLanes) * element_bytes(type);
  // The parameters' product fits: each is bounded, and their weights are in a file.
  const auto size = base::checked_mul(2 * params.n_layers * params.n_kv_heads * row, context_tokens);
  return size && *size < std::uint64_t{1} << 63 ? size : std::nullopt;
}

KvCache::KvCache(const format::ModelParams& params, std::uint64_t context_tokens, KvType type)
    : type_(type),
      stride_(base::align_up(params.head_dim, kLanes)),
      context_tokens_(context_tokens),
      kv_heads_(params.n_kv_heads),
      element_bytes_(element_bytes(type)),
      half_bytes_(0) {
  const std::uint64_t available = available_memory_bytes();
  const auto needed = size_bytes(params, context_tokens, type);
  if (!needed || *needed > available) {
    throw base::Error(base::ErrorKind::usage,
                      "a context of " + std::to_string(context_tokens) + " tokens needs " +
                          (needed ? base::to_human_bytes(*needed) : std::string("more than 8 EiB")) +
                          " of memory for keys and values, " + base::to_human_bytes(available) + " are free");
  }
  half_bytes_ = static_cast<std::size_t>(*needed / 2);
  data_.reset(static_cast<std::byte*>(std::calloc(2 * half_bytes_, 1)));
  if (data_ == nullptr) throw std::bad_alloc();
}

std::size_t KvCache::head_offset_bytes(std::size_t layer, std::size_t kv_head) const {
  return (layer * kv_heads_ + kv_head) * context_tokens_ * stride_ * element_bytes_;
}

void KvCache::write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::size_t position,
                    const float* key, const float* value) {
  const std::size_t offset = head_offset_bytes(layer, kv_head) + position * stride_ * element_bytes_;
  std::byte* key_row = data_.get() + offset;
  std::byte* value_row = key_row + half_bytes_;
  if (type_ == KvType::f32) {
    std::memcpy(key_row, key, stride_ * sizeof(float));
    std::memcpy(value_row, value, stride_ * sizeof(float));
  } else {
    kernels.to_bf16(key, stride_, reinterpret_cast<std::uint16_t*>(key_row));
    kernels.to_bf16(value, stride_, reinterpret_cast<std::uint16_t*>(value_row));
  }
}

KeyValueView KvCache::view(std::size_t layer, std::size_t kv_head) const {
  const std::byte* keys = data_.get() + head_offset_bytes(layer, kv_head);
  return {.keys = keys, .values = keys + half_bytes_, .stride = stride_, .bf16 = type_ == KvType::bf16};
}

}  // namespace sluice::runtime
