// The plain twins, for any CPU.

#include "convert/kernels/kernels.h"

namespace sluice::convert {
namespace {

#include "convert/kernels/lanes.h"

#include "convert/kernels/rows.h"

#include "convert/kernels/q4_search.h"

constexpr Kernels kTable = {"generic", widen_bf16, finite_bf16, quantize_q8, quantize_q4, quantize_q6, interleave};

}  // namespace

const Kernels& generic_kernels() { return kTable; }

}  // namespace sluice::convert
