#pragma once
// Keys and values of past positions: per layer and key/value head, rows of head_dim padded to kLanes, as f32,
// bf16, or s8 codes with one f32 scale a row (largest value / 127, rounded to nearest even).
//
// Where the model has a sliding window the rows are a ring: position p is in row p % capacity, and what the
// window has left behind is written over.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

class KvCache {
 public:
  struct Shape {
    std::uint64_t context_tokens;
    std::uint64_t chunk_tokens;   ///< written at once, before the first of them attends
    bool keep_positions = false;  ///< all of them, also where a window would need fewer
  };

  /// Error{usage} with the numbers when it would not fit into the memory that is free. Memory is touched as
  /// positions are written.
  KvCache(const format::ModelParams& params, const Shape& shape, KvType type);

  /// Positions that have a row at the same time, a multiple of kAttentionBlock; nothing when it does not fit
  /// 62 bits.
  [[nodiscard]] static std::optional<std::uint64_t> capacity(const format::ModelParams& params,
                                                             const Shape& shape);
  /// Nothing when it does not fit 63 bits.
  [[nodiscard]] static std::optional<std::uint64_t> size_bytes(const format::ModelParams& params,
                                                               std::uint64_t capacity, KvType type);
  [[nodiscard]] std::size_t stride() const { return stride_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] KvType type() const { return type_; }

  /// Writes a head's key and value [stride] f32 of one position.
  void write(const Kernels& kernels, std::size_t layer, std::size_t kv_head, std::size_t position,
             const float* key, const float* value);

  [[nodiscard]] KeyValueView view(std::size_t layer, std::size_t kv_head) const;

  /// The memory, as arrays with one element a row: what a prompt cache keeps.
  struct Region {
    std::byte* data;
    std::size_t row_bytes;
  };
  [[nodiscard]] std::vector<Region> regions() const;

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  [[nodiscard]] std::size_t first_row(std::size_t layer, std::size_t kv_head) const {
    return (layer * kv_heads_ + kv_head) * capacity_;
  }
  [[nodiscard]] float* scale(std::size_t row) const { return reinterpret_cast<float*>(scales_) + row; }

  KvType type_;
  std::size_t stride_;
  std::size_t capacity_ = 0;
  std::size_t kv_heads_;
  std::size_t heads_total_;     // over all layers
  std::size_t row_bytes_;       // without its scale
  std::size_t half_bytes_ = 0;  // keys of all layers, then values of all layers
  std::unique_ptr<std::byte, Free> data_;
  std::byte* scales_ = nullptr;  // q8: behind the values, of all keys, then of all values
};

}  // namespace sluice::runtime
