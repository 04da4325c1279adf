#pragma once
// Keys and values of all past positions: per layer and key/value head, rows of head_dim padded to kLanes.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>

#include "runtime/kernels/kernels.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

class KvCache {
 public:
  /// Error{usage} with the numbers when it would not fit into the memory that is free. Memory is touched as
  /// positions are written.
  KvCache(const format::ModelParams& params, std::uint64_t context_tokens, KvType type);

  /// Nothing when it does not fit 63 bits.
  [[nodiscard]] static std::optional<std::uint64_t> size_bytes(const format::ModelParams& params,
                                                               std::uint64_t context_tokens, KvType type);
  [[nodiscard]] std::size_t stride() const { return stride_; }

  /// Writes a head's key and value [stride] f32 of one position.
  void write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::size_t position,
             const float* key, const float* value);

  [[nodiscard]] KeyValueView view(std::size_t layer, std::size_t kv_head) const;

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  [[nodiscard]] std::size_t head_offset_bytes(std::size_t layer, std::size_t kv_head) const;

  KvType type_;
  std::size_t stride_;
  std::size_t context_tokens_;
  std::size_t kv_heads_;
  std::size_t element_bytes_;
  std::size_t half_bytes_;  // keys of all layers, then values of all layers
  std::unique_ptr<std::byte, Free> data_;
};

/// Memory that this process can still get: MemAvailable, and what its cgroup leaves.
[[nodiscard]] std::uint64_t available_memory_bytes();

}  // namespace sluice::runtime
