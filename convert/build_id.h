#pragma once
// The build id distinguishes this program from every other build of it.

#include "base/bytes.h"

namespace sluice::convert {

/// The build id that the linker derived from the program's content. Lives as long as the process.
[[nodiscard]] base::Bytes build_id();

}  // namespace sluice::convert
