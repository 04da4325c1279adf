#pragma once
// The source digests that follow from a container's own bytes: tensors in mx4 hold what was released bit for
// bit (docs/decisions/0036-mxfp4-is-kept-exact.md), so the digest of their source needs no release to be
// proven.

#include <optional>
#include <stop_token>

#include "base/progress.h"
#include "format/container_reader.h"
#include "verify/verify.h"

namespace sluice::verify {

/// Link "kept tensors", where the container has any: `checked` when each of them gives the source digest that
/// the directory records, and the one that the manifest of `inputs` lists where it lists the tensor. Reads
/// these tensors once, on `options.thread_count` threads, unless inputs.read_files is false.
[[nodiscard]] std::optional<ChainLink> check_kept_tensors(const format::ContainerReader& container,
                                                          const ChainInputs& inputs, const Options& options,
                                                          base::Progress& progress,
                                                          const std::stop_token& stop);

}  // namespace sluice::verify
