#include "runtime/memory/recurrent_state.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/invariant.h"
#include "format/tile.h"
#include "runtime/kernels/kernels.h"

namespace sluice::runtime {
namespace {

/// The floats of a layer's convolution and of its matrices, padded. Absent when they do not fit 60 bits.
std::optional<std::uint64_t> layer_floats(const RecurrentShape& shape) {
  const auto product = [](std::uint64_t a, std::optional<std::uint64_t> b) {
    return b ? base::checked_mul(a, *b) : std::nullopt;
  };
  const auto inputs = product(shape.inputs, base::align_up(shape.channels, format::kTileCols));
  const auto matrices = product(shape.heads, product(shape.rows, base::align_up(shape.columns, kLanes)));
  const auto sum = inputs && matrices ? base::checked_add(*inputs, *matrices) : std::nullopt;
  return sum && *sum < std::uint64_t{1} << 60 ? sum : std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> RecurrentPool::state_bytes(const DecoderShape& shape) {
  std::uint64_t floats = 0;
  for (const LayerShape& layer : shape.layers) {
    const auto of_layer = layer_floats(layer.recurrent);
    const auto sum = of_layer ? base::checked_add(floats, *of_layer) : std::nullopt;
    if (!sum || *sum >= std::uint64_t{1} << 60) return std::nullopt;
    floats = *sum;
  }
  return floats * sizeof(float);
}

RecurrentPool::RecurrentPool(const DecoderShape& shape, std::uint64_t budget_bytes)
    : state_bytes_(state_bytes(shape).value()),
      state_count_(state_bytes_ == 0 ? 0 : static_cast<std::size_t>(budget_bytes / state_bytes_)) {
  std::size_t offset = 0;
  for (const LayerShape& layer : shape.layers) {
    const RecurrentShape& r = layer.recurrent;
    Layer place{};
    place.convolution = offset;
    place.channel_stride = static_cast<std::size_t>(base::align_up(r.channels, format::kTileCols));
    place.matrices = offset + r.inputs * place.channel_stride;
    place.column_stride = static_cast<std::size_t>(base::align_up(r.columns, kLanes));
    place.matrix_stride = r.rows * place.column_stride;
    offset = place.matrices + r.heads * place.matrix_stride;
    layers_.push_back(place);
  }
  // NORESERVE: states that are never taken take no memory, and neither do the zeros, which are only read.
  // mmap refuses a length of 0.
  void* const memory = ::mmap(nullptr, std::max<std::size_t>(bytes() + state_bytes_, 1),
                              PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<float*>(memory);
  owners_.resize(state_count_);
  free_.reserve(state_count_);
  // The list is a stack: a state that was just given back is used again before one that has no memory yet.
  for (std::size_t state = state_count_; state-- > 0;) free_.push_back(state);
}

RecurrentPool::~RecurrentPool() { ::munmap(memory_, std::max<std::size_t>(bytes() + state_bytes_, 1)); }

RecurrentState RecurrentPool::take() {
  INVARIANT(!free_.empty());
  const std::size_t index = free_.back();
  free_.pop_back();
  owners_[index] = 1;
  return {*this, index};
}

float* RecurrentPool::data(std::size_t index) const {
  return memory_ + (index + 1) * (state_bytes_ / sizeof(float));
}

RecurrentState::RecurrentState(const RecurrentState& other) : pool_(other.pool_), index_(other.index_) {
  if (pool_ != nullptr) ++pool_->owners_[index_];
}

RecurrentState::RecurrentState(RecurrentState&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), index_(other.index_) {}

RecurrentState& RecurrentState::operator=(RecurrentState other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(index_, other.index_);
  return *this;
}

RecurrentState::~RecurrentState() {
  if (pool_ != nullptr && --pool_->owners_[index_] == 0) pool_->free_.push_back(index_);
}

}  // namespace sluice::runtime
