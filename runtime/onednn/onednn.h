#pragma once
// Matrix products through oneDNN. This header is the interface of the folder and exposes no type of oneDNN.
//
// oneDNN computes on the calling thread alone, so it works inside the runtime's own workers: one call for a
// slice of a matrix, as the own kernels are called (runtime/kernels/products.h).
//
//   bf16 matrices  as bf16 where the CPU has AVX512-BF16 or AMX, with the activations rounded to bf16;
//                  elsewhere in f32, with the weights widened block by block
//   q8, q6, q4     u8 x s8 -> s32 chunk by chunk, on CPUs with AVX-512 VNNI or AMX: the same integers and the
//                  same bits as the own kernels. Without those instructions oneDNN 2.6.3 saturates
//                  (measured: docs/decisions/0016-onednn-behind-the-products.md).
//   mx4            never: the own kernels multiply it, whatever the engine
//                  (docs/decisions/0037-mx4-products.md).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "format/tile.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/products.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Fewer rows than this are always computed by the own kernels, which read the weights at the rate of memory;
/// oneDNN came to 55 to 105 % of that (docs/decisions/0016-onednn-behind-the-products.md).
constexpr std::size_t kOneDnnRowsMin = 8;

/// Which of the instruction sets that matter here oneDNN uses on this CPU; $ONEDNN_MAX_CPU_ISA limits it.
struct OneDnnIsa {
  bool vnni;  ///< AVX-512 with exact u8 x s8 -> s32
  bool bf16;  ///< AVX512-BF16
  bool amx;
};
[[nodiscard]] OneDnnIsa onednn_isa();

/// Whether products of `rows` rows with matrices of `type` go to oneDNN. `isa`: that of the own kernels.
[[nodiscard]] bool uses_onednn(MatmulEngine engine, format::TileType type, std::size_t rows, Isa isa);

/// Error{usage} when `engine` is onednn and oneDNN's products of `type` would not be exact on this CPU; never
/// for mx4, which it does not multiply.
void require_onednn(MatmulEngine engine, format::TileType type);

/// Products for some workers; different workers may call it at the same time.
class OneDnnProducts {
 public:
  OneDnnProducts(const Kernels& kernels, unsigned workers);
  ~OneDnnProducts();
  OneDnnProducts(const OneDnnProducts&) = delete;
  OneDnnProducts& operator=(const OneDnnProducts&) = delete;

  /// Computes the same as multiply() of runtime/kernels/products.h, for kOneDnnRowsMin rows or more. `worker`
  /// is below the number given to the constructor. Allocates: primitives on first use of a shape, and
  /// whatever oneDNN takes in each call.
  void multiply(const Matrix& matrix, const InputRows& x, std::size_t first_panel, std::size_t panels,
                float* out, std::size_t out_stride, unsigned worker);

  /// Calls of multiply() so far. Call while no worker multiplies.
  [[nodiscard]] std::uint64_t calls() const;

 private:
  struct Worker;

  const Kernels& kernels_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace sluice::runtime
