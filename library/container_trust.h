#pragma once
// What stands behind a .sluice file from outside: a signature over the file, or a manifest that pins its
// root.

#include <filesystem>
#include <string>
#include <vector>

#include "cli/console.h"
#include "format/manifest.h"
#include "library/references.h"
#include "library/signatures.h"
#include "verify/verify.h"

namespace sluice::cli {

class ContainerTrust final {
 public:
  /// Judges the manifest of `sources`, else the signature beside the container. Error{untrusted} as
  /// SignatureJudge says.
  ContainerTrust(const std::filesystem::path& container, const ExpectationSources& sources, Console& console);

  /// Error{verification} when there is a manifest that names roots, and the proven container's is none of
  /// them.
  void require_pinned(const verify::Report& report) const;

  [[nodiscard]] const std::vector<SignatureReport>& signatures() const { return signatures_; }
  /// The manifest that names roots; empty without one.
  [[nodiscard]] const std::string& manifest_path() const { return manifest_path_; }

 private:
  std::filesystem::path container_;
  std::vector<SignatureReport> signatures_;
  std::string manifest_path_;
  format::Manifest manifest_;
};

}  // namespace sluice::cli
