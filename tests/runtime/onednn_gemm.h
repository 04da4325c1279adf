#pragma once
// u8 x s8 -> s32 products of oneDNN on the calling thread alone: a second opinion on our kernels.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sluice::tests {

constexpr std::size_t kOnednnRowsMax = 128;

/// Creates a primitive for every shape on first use and keeps it. One a thread.
class OnednnGemm {
 public:
  OnednnGemm();
  ~OnednnGemm();

  /// out[m][n] = sum over k of source[m][k] * weights[k][n]; all dense. rows <= kOnednnRowsMax is rounded up
  /// to a power of two, so source and out must have room for that. cols and width are multiples of 64;
  /// weights are in the layout BA16a64b4a.
  void multiply(std::size_t rows, std::size_t cols, std::size_t width, const std::uint8_t* source,
                const std::int8_t* weights, std::int32_t* out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::tests
