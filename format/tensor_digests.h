#pragma once
// Computes the digests of a checkpoint's tensors for a manifest. They do not depend on files and strides.

#include <stop_token>
#include <vector>

#include "base/progress.h"
#include "format/checkpoint_index.h"
#include "format/manifest.h"
#include "format/released_model.h"

namespace sluice::format {

/// The digests of all tensors of the files, sorted by name. Reads every tensor once, several at a time on
/// `thread_count` threads. Errors: malformed, io, interrupted.
[[nodiscard]] std::vector<ManifestTensor> digest_tensors(const CheckpointIndex& index, unsigned thread_count,
                                                         base::Progress& progress,
                                                         const std::stop_token& stop);

/// The digests of all tensors of the model, under their native names and in native order: the same for every
/// layout with the same values. These are a container's source digests.
[[nodiscard]] std::vector<ManifestTensor> digest_tensors(const ReleasedModel& model, unsigned thread_count,
                                                         base::Progress& progress,
                                                         const std::stop_token& stop);

}  // namespace sluice::format
