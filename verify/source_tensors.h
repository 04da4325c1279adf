#pragma once
// A container's source digests against the checkpoint that it was made from.

#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>

#include "base/progress.h"
#include "format/container_reader.h"
#include "verify/verify.h"

namespace sluice::verify {

struct SourceTensors {
  std::uint64_t equal = 0;
  std::uint64_t unread = 0;  ///< not row-major in the checkpoint: their released order is not read here
  std::uint64_t differing = 0;
  std::string first_differing;  ///< its name
};

/// Error{malformed} for a checkpoint that cannot be read.
[[nodiscard]] SourceTensors compare_source_tensors(const format::ContainerReader& container,
                                                   const std::filesystem::path& release,
                                                   const Options& options, base::Progress& progress,
                                                   const std::stop_token& stop);

}  // namespace sluice::verify
