#pragma once
// `sluice verify --write-sums`: writes checksum list and manifest of a release, so that it can be verified
// later.

#include <filesystem>
#include <string>

#include "cli/commands.h"
#include "cli/manifest_facts.h"
#include "library/library.h"
#include "verify/verify.h"

namespace sluice::cli {

struct WriteSumsRequest {
  std::string output;  ///< STEM of STEM.SHA256SUMS and STEM.manifest.json; empty: PATH itself
  bool overwrite = false;
  ManifestFacts facts;
};

/// A release that has references is verified first, and nothing is written when it differs from them. The
/// names in both files are paths below the folder. Returns the exit code.
int write_sums(const std::filesystem::path& path, const library::NamedReferences& named,
               const WriteSumsRequest& request, const verify::Options& options, const Invocation& invocation);

}  // namespace sluice::cli
