#include "library/container_trust.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "library/reference_reader.h"

namespace sluice::cli {

namespace fs = std::filesystem;

ContainerTrust::ContainerTrust(const fs::path& container, const ExpectationSources& sources, Console& console)
    : container_(container) {
  if (!sources.manifest.empty()) {
    StatementReader statements(sources.key, console);
    const fs::path file = find_manifest_file(sources.manifest);
    manifest_ = statements.read_manifest(file);
    if (!manifest_.containers.empty()) manifest_path_ = file.string();
    signatures_ = statements.conclude(nullptr, nullptr);
    return;
  }
  SignatureJudge judge(sources.key, console);
  std::error_code absent;
  const bool has_signature = fs::exists(signature_path(container), absent);
  signatures_.push_back(has_signature ? judge.judge(container, base::MappedFile::open_read(container).bytes())
                                      : judge.judge(container, {}));
}

void ContainerTrust::require_pinned(const verify::Report& report) const {
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

}  // namespace sluice::cli
