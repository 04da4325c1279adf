#pragma once
// oneDNN's matmul primitives of fixed shapes, on the calling thread alone. Errors of oneDNN are Error{io}.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

namespace sluice::runtime {

/// Makes a primitive for every shape on first use and keeps it. Used by one thread at a time.
class Matmuls {
 public:
  Matmuls();
  ~Matmuls();
  Matmuls(const Matmuls&) = delete;
  Matmuls& operator=(const Matmuls&) = delete;

  // out[rows][width] = source[rows][cols] x weights. All are dense: where a row's stride is not its width,
  // oneDNN 2.6.3 falls back to its reference loops, which take a thousand times as long. width is a multiple
  // of 64.

  /// weights: bf16 in the layout BA16a64b2a; cols is a multiple of 32.
  void multiply_bf16(std::size_t rows, std::size_t cols, std::size_t width, const std::uint16_t* source,
                     const std::byte* weights, float* out);
  /// weights: s8 in the layout BA16a64b4a; where cols is not a multiple of 64, zeros fill up the last tile.
  void multiply_u8(std::size_t rows, std::size_t cols, std::size_t width, const std::uint8_t* source,
                   const std::int8_t* weights, std::int32_t* out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// out[rows][width] (+)= source[rows][cols] x weights[cols][width], all f32 and row-major. Strides are in
/// floats, from one row to the next. Any shape; `add` adds the product to `out`.
struct FloatProduct {
  std::size_t rows;
  std::size_t cols;
  std::size_t width;
  const float* source;
  std::size_t source_stride;
  const float* weights;  ///< dense
  float* out;
  std::size_t out_stride;
  bool add;
};
void multiply_f32(const FloatProduct& product);

}  // namespace sluice::runtime
