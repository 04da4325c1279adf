#pragma once
// Which tensors of a checkpoint a damaged range touches.

#include <filesystem>
#include <vector>

#include "verify/verify.h"

namespace sluice::verify {

/// Fills in DamagedRange::tensors when `file` is a checkpoint whose index can still be read.
void name_tensors(const std::filesystem::path& file, std::vector<DamagedRange>& damaged);

}  // namespace sluice::verify
