// For AVX-512 F, BW, DQ and VL (Skylake-X, Zen 4 and later).

#include <immintrin.h>

#include "convert/kernels/kernels.h"

namespace sluice::convert {
namespace {

#include "convert/kernels/lanes-inl.h"

#include "convert/kernels/rows-inl.h"

#include "convert/kernels/q4_search-inl.h"

constexpr Kernels kTable = {"avx512",    widen_bf16,  finite_bf16, quantize_q8,
                            quantize_q4, quantize_q6, interleave};

}  // namespace

const Kernels& avx512_kernels() { return kTable; }

}  // namespace sluice::convert
