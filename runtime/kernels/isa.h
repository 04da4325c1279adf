#pragma once
// Which kernels this CPU can execute.

#include "runtime/kernels/kernels.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Error{usage} when the CPU cannot execute them.
[[nodiscard]] const Kernels& kernels_for(Isa isa);

}  // namespace sluice::runtime
