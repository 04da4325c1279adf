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
  signatures_.push_back(has_signature
                            ? verifier.verify(container, base::MappedFile::open_read(container).bytes())
                            : verifier.verify(container, {}));
}

void ContainerTrust::require_pinned(const verify::Report& report) const {
  // A damaged container is reported as damaged: its root, which may be damaged itself, says nothing then.
  if (manifest_path_.empty() || !report.ok) return;
  const bool pinned = std::ranges::any_of(manifest_.containers, [&](const format::ManifestContainer& known) {
    return base::to_hex(known.root) == report.root_sha256;
  });
  if (pinned) return;
  throw base::Error(base::ErrorKind::verification, container_.string() + ": its root " + report.root_sha256 +
                                                       " is none of the " +
                                                       base::to_counted(manifest_.containers.size(), "root") +
                                                       " that " + manifest_path_ + " names");
}

}  // namespace sluice::library
