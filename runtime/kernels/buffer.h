#pragma once
// Arrays of the forward pass. They are aligned to a cache line, so that no SIMD load crosses two, and start
// with zeros, which the padding of rows relies on.

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace sluice::runtime {

template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count) { reserve(count); }

  /// Makes room for `count` elements. Growing loses the content and zeroes it.
  void reserve(std::size_t count) {
    if (count <= capacity_) return;
    const std::size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    data_.reset();
    capacity_ = 0;
    data_.reset(static_cast<T*>(::operator new(bytes, kCacheLine)));
    std::memset(static_cast<void*>(data_.get()), 0, bytes);
    capacity_ = count;
  }

  [[nodiscard]] T* data() { return data_.get(); }
  [[nodiscard]] const T* data() const { return data_.get(); }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

 private:
  static constexpr std::align_val_t kCacheLine{64};
  struct Delete {
    void operator()(T* p) const { ::operator delete(p, kCacheLine); }
  };
  std::unique_ptr<T, Delete> data_;
  std::size_t capacity_ = 0;
};

}  // namespace sluice::runtime
