// For AVX2 (Haswell, Zen and later).

#include <immintrin.h>

#include "convert/kernels/kernels.h"

namespace sluice::convert {
namespace {

#include "convert/kernels/lanes-inl.h"

#include "convert/kernels/rows-inl.h"

#include "convert/kernels/q4_search-inl.h"

constexpr Kernels kTable = {"avx2",      widen_bf16,  finite_bf16, quantize_q8,
                            quantize_q4, quantize_q6, interleave};

}  // namespace

const Kernels& avx2_kernels() { return kTable; }

}  // namespace sluice::convert
