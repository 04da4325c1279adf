#pragma once
// What `verify PATH` does with a path: proves a release or a container against what is at hand, and repairs
// it when that is asked for.

#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/network_options.h"
#include "fetch/fetch.h"
#include "library/references.h"
#include "library/signatures.h"
#include "verify/verify.h"

namespace sluice::cli {

struct ProofRequest {
  std::string path;
  ExpectationSources sources;
  verify::Options how;
  bool repair = false;
  std::string release;     ///< that a container was made of, for its repair; empty: looked for
  NetworkOptions network;  ///< for repairs
};

struct Proof {
  verify::Report report;  ///< after the repair; not ok either when a link of the chain differs
  std::optional<fetch::RepairResult> repaired;
  std::vector<SignatureReport> signatures;  ///< those that are not valid first
  std::string root_pinned_by;               ///< the manifest that names a container's root
  std::vector<verify::ChainLink> chain;     ///< from the release to a container
};

/// Error{verification} when there is nothing to verify against; otherwise as find_expectations, verify and
/// the repairs.
[[nodiscard]] Proof prove_path(const ProofRequest& request, const Invocation& invocation);

}  // namespace sluice::cli
