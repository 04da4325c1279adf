#pragma once
// Names the contents of a damaged range: tensors and their rows, and the parts of a file that are not
// tensors.

#include <filesystem>
#include <vector>

#include "format/container_reader.h"
#include "verify/verify.h"

namespace sluice::verify {

/// Fills in the tensors and parts of the ranges when `file` is a checkpoint or a container. Returns the
/// reason when they cannot be found because the damage lies in the file's own index; else an empty string.
std::string name_tensors(const std::filesystem::path& file, std::vector<DamagedRange>& damaged);

/// The tensor by name, with its layer and expert when it belongs to an expert.
[[nodiscard]] TouchedTensor touched(const format::ContainerReader& container,
                                    const format::ContainerTensor& tensor);

}  // namespace sluice::verify
