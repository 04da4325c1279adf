#pragma once
// Who outside a .sluice file vouches for it: a signature over the file, or a manifest that pins its root
// digest.

#include <filesystem>
#include <string>
#include <vector>

#include "format/manifest.h"
#include "library/context.h"
#include "library/references.h"
#include "library/signature_report.h"
#include "verify/verify.h"

namespace sluice::library {

class ContainerTrust final {
 public:
  /// Reads the named manifest and verifies its signature; without one, verifies the signature beside the
  /// container. Error{untrusted} as SignatureVerifier says.
  ContainerTrust(const std::filesystem::path& container, const NamedReferences& named,
                 const Context& context);

  /// What the named manifest pins of the verified container. Error{verification} when it names roots and none
  /// of them is the container's.
  [[nodiscard]] verify::PinCoverage require_pinned(const verify::Report& report) const;

  [[nodiscard]] const std::vector<SignatureReport>& signatures() const { return signatures_; }
  /// The manifest that names roots; empty without one.
  [[nodiscard]] const std::string& manifest_path() const { return manifest_path_; }

 private:
  std::filesystem::path container_;
  std::vector<SignatureReport> signatures_;
  std::string manifest_path_;
  format::Manifest manifest_;
};

}  // namespace sluice::library
