#pragma once
// verify PATH: compares a release or a container with its references, and repairs it when that is asked for.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fetch/fetch.h"
#include "library/context.h"
#include "library/references.h"
#include "library/signature_report.h"
#include "verify/verify.h"

namespace sluice::library {

/// Compares a release with its references. Errors as verify::verify_release.
[[nodiscard]] verify::Report verify_release(const References& references, const verify::Options& options,
                                            const Context& context);

/// "3 files, 27.4 MiB: proven by v1, v2 and sha256", or what is wrong.
[[nodiscard]] std::string summarize(const verify::Report& report);

struct VerifyRequest {
  std::filesystem::path path;
  NamedReferences references;
  verify::Options options;
  bool repair = false;
  std::filesystem::path
      release;  ///< the release that a container was made of, for its repair; empty: looked for
  /// Peers, limits, cache folder and worker command for a repair; source and output folder are set here.
  fetch::FetchRequest network;
};

struct Verification {
  verify::Report report;       ///< after the repair; not ok either when a link of the chain differs
  bool has_references = true;  ///< false: there was nothing to compare the release with
  std::vector<std::string> unusable_references;  ///< as References::unusable
  std::optional<fetch::RepairResult> repaired;
  std::vector<SignatureReport> signatures;  ///< those that are not valid first
  std::string root_pinned_by;               ///< the manifest that names a container's root; empty: none does
  verify::PinCoverage pinned = verify::PinCoverage::nothing;  ///< what that root fixes
  std::vector<verify::ChainLink> chain;                       ///< from the release to a container
};

/// A container that the named references list as a file of a release is verified as such a file. Error
/// {verification} when a manifest names roots and the container's is not among them; otherwise as
/// find_references, verify and the repairs.
[[nodiscard]] Verification verify_path(const VerifyRequest& request, const Context& context);

}  // namespace sluice::library
