#pragma once
// `sluice verify --write-sums`: puts down what a release holds, so that it can be verified later.

#include <filesystem>
#include <string>

#include "cli/commands.h"
#include "cli/manifest_facts.h"
#include "library/references.h"
#include "verify/verify.h"

namespace sluice::cli {

struct WriteSumsRequest {
  std::string output;  ///< STEM of STEM.SHA256SUMS and STEM.manifest.json; empty: PATH itself
  bool overwrite = false;
  ManifestFacts facts;
};

/// Where there is something to verify against, the release is verified first, and only what is proven is put
/// down. Names are those below the folder. Returns the exit code.
int write_sums(const std::filesystem::path& path, const ExpectationSources& sources,
               const WriteSumsRequest& request, const verify::Options& options, const Invocation& invocation);

}  // namespace sluice::cli
