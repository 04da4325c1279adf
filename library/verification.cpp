// A release is compared with its references, a container with its own digests and then with whoever names its
// root. A repair takes the report of the first comparison, and what it wrote is compared once more: only the
// last report is returned. Comparing and hashing use options.thread_count threads; the rest runs on the
// caller's.

#include "library/verification.h"

#include <algorithm>
#include <map>

#include "base/text.h"
#include "library/container_chain.h"
#include "library/container_trust.h"
#include "library/origin.h"
#include "library/release_path.h"
#include "library/repair.h"

namespace sluice::library {
namespace {

using verify::FileState;

verify::Report verify_container(const VerifyRequest& request, const Context& context) {
  auto report =
      verify::verify_container(request.path, request.options, context.observer.progress(), context.stop);
  context.observer.on_work_end();
  return report;
}

/// Without references every file is reported as unproven, so that nobody takes silence for a proof.
verify::Report report_unproven(const VerifyRequest& request, const References& references,
                               const Context& context) {
  if (!is_one_file(request.path)) return verify_release(references, request.options, context);
  verify::Report report;
  report.files.push_back({request.path.filename().string(),
                          FileState::unproven,
                          std::filesystem::file_size(request.path),
                          "has nothing to be compared with",
                          {}});
  return report;
}

void repair_release(const VerifyRequest& request, References& references, Verification& result,
                    const Context& context) {
  if (!references.expected.layout) {
    // A manifest proves whole files; only the torrent's hashes tell which pieces have to be fetched again.
    fetch_torrent(references, request.network, context);
    result.report = verify_release(references, request.options, context);  // now with places of the damage
  }
  context.observer.on_damage(result.report);
  result.repaired = repair_files(references, result.report, request.network, context);
  context.observer.on_repair(*result.repaired);
  result.report = verify_release(references, request.options, context);
}

Verification verify_release_at(const VerifyRequest& request, const Context& context) {
  auto references = find_references(request.path, request.references, context);
  Verification result;
  result.has_references = !references.empty();
  result.unusable_references = references.unusable;
  if (!result.has_references) {
    result.report = report_unproven(request, references, context);
    return result;
  }
  for (const auto& file : references.found_in) context.observer.on_note("against " + file);
  result.signatures = references.signatures;
  result.report = verify_release(references, request.options, context);
  if (request.repair && can_repair(result.report)) repair_release(request, references, result, context);
  // Parts that an interrupted repair has fetched are of no use once the release is whole.
  if (request.repair && result.report.ok) discard_repair(references);
  return result;
}

Verification verify_container_at(const VerifyRequest& request, const Context& context) {
  // Trust comes first: it refuses a bad signature before the payload is compared.
  const ContainerTrust trust(request.path, request.references, context);
  Verification result;
  // A damaged directory is for verify_container() to report.
  if (const std::string damage = damaged_sources_of(request.path); !damage.empty())
    context.observer.on_warning(request.path.string() + ": " + damage);
  result.signatures = trust.signatures();
  result.report = verify_container(request, context);
  if (request.repair && can_repair(result.report)) {
    context.observer.on_damage(result.report);
    const auto written_bytes =
        repair_container(request.path, result.report, request.release, request.options.thread_count, context);
    result.repaired = {0, written_bytes};
    context.observer.on_repair(*result.repaired);
    result.report = verify_container(request, context);
  }
  // The pins are compared after the repair, since a repair can restore a damaged root.
  result.pinned = trust.require_pinned(result.report);
  if (result.pinned != verify::PinCoverage::nothing) result.root_pinned_by = trust.manifest_path();
  // The chain of a damaged container is not checked: it takes minutes and could not make the report ok.
  if (!result.report.ok) return result;
  result.chain = check_chain(request.path, request.references, ReleaseFiles::read, request.options, context);
  result.report.ok = !differs(result.chain);
  return result;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace

verify::Report verify_release(const References& references, const verify::Options& options,
                              const Context& context) {
  auto report = verify::verify_release(references.folder, references.expected, options,
                                       context.observer.progress(), context.stop);
  context.observer.on_work_end();
  return report;
}

std::string summarize(const verify::Report& report) {
  std::string text =
      base::to_counted(report.files.size(), "file") + ", " + base::to_human_bytes(report.bytes) + ": ";
  std::map<FileState, std::size_t> counts;
  for (const auto& file : report.files) ++counts[file.state];
  std::vector<std::string> wrong;
  for (const auto& [state, count] : counts) {
    if (state != FileState::ok)
      wrong.push_back(std::to_string(count) + " " + std::string(verify::to_string(state)));
  }
  // Files that no reference names neither spoil a proof nor belong to it.
  if (report.ok)
    return text + "proven by " + join(report.proven_by) + (wrong.empty() ? "" : "; " + join(wrong));
  const bool nothing_expected = std::ranges::all_of(report.files, [](const verify::FileReport& file) {
    return file.state == FileState::unproven || file.state == FileState::extra;
  });
  if (nothing_expected) return text + "there is nothing to verify against";
  // Every part of a container may have its digest, and the container still not be made from its release.
  text +=
      "verification FAILED: " + (wrong.empty() ? std::string("a link of the chain differs") : join(wrong));
  if (report.damaged_bytes > 0) text += " (" + base::to_human_bytes(report.damaged_bytes) + " damaged)";
  return text;
}

Verification verify_path(const VerifyRequest& request, const Context& context) {
  const bool as_container =
      is_container_file(request.path) && !names_container(request.references, request.path, context);
  return as_container ? verify_container_at(request, context) : verify_release_at(request, context);
}

}  // namespace sluice::library
