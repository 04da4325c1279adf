// The kernels for any CPU: the reference implementation of the others.

#include "convert/kernels/kernels.h"

namespace sluice::convert {
namespace {

#include "convert/kernels/lanes-inl.h"

#include "convert/kernels/rows-inl.h"

#include "convert/kernels/q4_search-inl.h"

constexpr Kernels kTable = {"generic",   widen_bf16,  finite_bf16, quantize_q8,
                            quantize_q4, quantize_q6, interleave};

}  // namespace

const Kernels& generic_kernels() { return kTable; }

}  // namespace sluice::convert
