#pragma once
// What lies in a damaged range of a file: tensors and their rows, and what stands between tensors.

#include <filesystem>
#include <vector>

#include "format/container_reader.h"
#include "verify/verify.h"

namespace sluice::verify {

/// Fills in what DamagedRange names when `file` is a checkpoint or a container. Returns why it does not know,
/// when the damage is where the file itself says what lies where; else nothing.
std::string name_tensors(const std::filesystem::path& file, std::vector<DamagedRange>& damaged);

/// A container's tensor, with the expert that it is of.
[[nodiscard]] TouchedTensor touched(const format::ContainerReader& container,
                                    const format::ContainerTensor& tensor);

}  // namespace sluice::verify
