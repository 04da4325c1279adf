// Trust is established before the tensors are verified, so that a signature or manifest that cannot be
// believed ends the command early. A named manifest takes the place of the container's own signature, because
// its signature covers the roots that it names.

#include "library/container_trust.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "library/catalog.h"
#include "library/reference_reader.h"
#include "library/signature_verifier.h"

namespace sluice::library {

namespace fs = std::filesystem;

ContainerTrust::ContainerTrust(const fs::path& container, const NamedReferences& named,
                               const Context& context)
    : container_(container) {
  if (!named.manifest.empty()) {
    ReferenceReader reader(named.key, context);
    const fs::path file = find_manifest_file(named.manifest, context.folders);
    manifest_ = reader.read_manifest(file);
    if (!manifest_.containers.empty()) manifest_path_ = file.string();
    signatures_ = reader.conclude(nullptr, nullptr);
    return;
  }
  // The container is mapped and hashed only when there is a signature to verify: it may have 26 GB. Without
  // one, verify() needs no content: it returns `none`, or refuses when a key was asked for.
  SignatureVerifier verifier(named.key, context);
  std::error_code absent;
  const bool has_signature = fs::exists(signature_path(container), absent);
  if (!has_signature) {
    signatures_.push_back(verifier.verify(container, {}));
    return;
  }
  const auto file = base::MappedFile::open_read(container);
  try {
    signatures_.push_back(verifier.verify(container, file.bytes()));
  } catch (const base::Error&) {
    // A signature does not fit a file that was cut meanwhile, which then is the error to tell.
    file.require_whole();
    throw;
  }
  file.require_whole();
}

verify::PinCoverage ContainerTrust::require_pinned(const verify::Report& report) const {
  // A damaged container is reported as damaged: its root, which may be damaged itself, says nothing then.
  if (manifest_path_.empty() || !report.ok) return verify::PinCoverage::nothing;
  const auto root = base::parse_digest<base::Sha256>(report.root_sha256).value();
  const auto tensors = base::parse_digest<base::Sha256>(report.tensors_sha256).value();
  auto pinned = verify::PinCoverage::nothing;
  for (const format::ManifestContainer& known : manifest_.containers)
    pinned = std::max(pinned, verify::compare_pin(known.root, root, tensors));
  if (pinned != verify::PinCoverage::nothing) return pinned;
  const auto same_weights =
      std::ranges::find(manifest_.containers, tensors, &format::ManifestContainer::tensors_sha256);
  throw base::Error(base::ErrorKind::verification,
                    container_.string() + ": its root " + report.root_sha256 + " is none of the " +
                        base::to_counted(manifest_.containers.size(), "root") + " that " + manifest_path_ +
                        " names" +
                        (same_weights == manifest_.containers.end()
                             ? std::string()
                             : "; its weights are those of " + same_weights->name +
                                   ", its model parameters or its tokenizer are others"));
}

}  // namespace sluice::library
