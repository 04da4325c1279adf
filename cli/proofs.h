#pragma once
// --verify of the commands that execute a model: when tensors are compared with their digests, where the
// results are recorded, and what that cost.

#include <filesystem>
#include <string>

#include "cli/options.h"
#include "format/json.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// --verify off|first-use|full.
void declare_verify(Options& options, std::string& value);

/// The options for opening the model at `path`. The record of verified tensors lies in .sluice/ beside the
/// file, or in the cache folder when that place cannot be written.
[[nodiscard]] runtime::ModelOptions model_options(const std::filesystem::path& path,
                                                  const std::string& verify, unsigned thread_count);

[[nodiscard]] format::Json proofs_json(const format::ProofStats& stats);
/// "proofs: 12 of 32 experts and 27 of 27 tensors (8.1 MiB) in 0.01 s; known from before: 3 and 0"
[[nodiscard]] std::string proofs_line(const format::ProofStats& stats);

}  // namespace sluice::cli
