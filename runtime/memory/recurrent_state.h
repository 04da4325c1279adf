#pragma once
// What recurrent mixers keep of a sequence instead of keys and values: a state of fixed size, whatever the
// number of tokens.
//
//   layer by layer   convolution  [taps - 1][channels]        the last inputs of its convolution, oldest
//   first
//                    matrices     [head][rows][columns]       the memory of each head of a delta net
//
// All f32; channels are padded with zeros to whole tiles, columns to kLanes. A state cannot be rewound, so it
// is never changed once a step has made it: the next step makes another state out of it. That is why a step
// that fails leaves a sequence as it was, and why a snapshot costs a reference and no copy
// (docs/decisions/0040-recurrent-state-and-snapshots.md).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/memory/supported_model.h"

namespace sluice::runtime {

class RecurrentState;

/// The memory of all states of an engine. It must outlive them. Used by one thread at a time.
class RecurrentPool final {
 public:
  /// Reserves address space for whole states; the kernel provides memory as they are written. Throws
  /// std::bad_alloc when it refuses.
  RecurrentPool(const DecoderShape& shape, std::uint64_t budget_bytes);
  ~RecurrentPool();
  RecurrentPool(const RecurrentPool&) = delete;
  RecurrentPool& operator=(const RecurrentPool&) = delete;

  /// The size of one state; 0 where no layer has any. Absent when it does not fit 63 bits.
  [[nodiscard]] static std::optional<std::uint64_t> state_bytes(const DecoderShape& shape);

  /// Where a layer's values are within each state, in floats.
  struct Layer {
    std::size_t convolution;     ///< offset
    std::size_t channel_stride;  ///< of one input of the convolution
    std::size_t matrices;        ///< offset
    std::size_t column_stride;   ///< of a row of a matrix
    std::size_t matrix_stride;   ///< of a head
  };
  [[nodiscard]] const Layer& layer(std::size_t index) const { return layers_[index]; }
  [[nodiscard]] std::uint64_t state_bytes() const { return state_bytes_; }
  [[nodiscard]] std::uint64_t bytes() const { return state_bytes_ * state_count_; }
  [[nodiscard]] std::size_t state_count() const { return state_count_; }
  [[nodiscard]] std::size_t free_state_count() const { return free_.size(); }

  /// A state, whose content is undefined. There must be a free one.
  [[nodiscard]] RecurrentState take();
  /// The state of a sequence without tokens: zeros, which nobody may write.
  [[nodiscard]] const float* zeros() const { return memory_; }

 private:
  friend class RecurrentState;
  [[nodiscard]] float* data(std::size_t index) const;

  std::vector<Layer> layers_;
  std::uint64_t state_bytes_;
  std::size_t state_count_;
  float* memory_;                      // one state of zeros, then those that are given out
  std::vector<std::uint32_t> owners_;  // [state]
  std::vector<std::size_t> free_;      // the next one to take is the last
};

/// A reference to a state of a pool, or to none. The pool gets a state back with its last reference.
class RecurrentState final {
 public:
  RecurrentState() = default;
  RecurrentState(const RecurrentState& other);
  RecurrentState(RecurrentState&& other) noexcept;
  RecurrentState& operator=(RecurrentState other) noexcept;
  ~RecurrentState();

  [[nodiscard]] explicit operator bool() const { return pool_ != nullptr; }
  /// All floats of the state, by RecurrentPool::layer().
  [[nodiscard]] float* data() const { return pool_->data(index_); }

 private:
  friend class RecurrentPool;
  RecurrentState(RecurrentPool& pool, std::size_t index) : pool_(&pool), index_(index) {}

  RecurrentPool* pool_ = nullptr;
  std::size_t index_ = 0;
};

}  // namespace sluice::runtime
