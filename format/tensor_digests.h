#pragma once
// The digests by which a manifest names a checkpoint's tensors, whatever files and strides they lie in.

#include <stop_token>
#include <vector>

#include "base/progress.h"
#include "format/checkpoint_index.h"
#include "format/manifest.h"
#include "format/released_model.h"

namespace sluice::format {

/// One a tensor of the files, sorted by name. Reads every tensor once, several at a time. Errors: malformed,
/// io, interrupted.
[[nodiscard]] std::vector<ManifestTensor> digest_tensors(const CheckpointIndex& index, unsigned thread_count,
                                                         base::Progress& progress,
                                                         const std::stop_token& stop);

/// One a tensor of the model, under its native name and in its native order: the same for every layout that
/// holds the same values. These are a container's source digests.
[[nodiscard]] std::vector<ManifestTensor> digest_tensors(const ReleasedModel& model, unsigned thread_count,
                                                         base::Progress& progress,
                                                         const std::stop_token& stop);

}  // namespace sluice::format
