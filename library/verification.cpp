#include "library/verification.h"

#include "base/error.h"
#include "base/text.h"
#include "cli/pickle_check.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "format/container_reader.h"
#include "library/container_chain.h"
#include "library/container_trust.h"
#include "library/repair.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

bool is_container(const fs::path& path) {
  return fs::is_regular_file(path) && (path.extension() == ".sluice" || format::is_container(path));
}

void tell_repair(const fetch::RepairResult& repaired, Console& console) {
  console.event(format::Json::object({{"event", "repair"},
                                      {"downloaded_bytes", repaired.downloaded_bytes},
                                      {"written_bytes", repaired.written_bytes}}));
  console.print("repaired: " + base::to_human_bytes(repaired.downloaded_bytes) + " fetched, " +
                base::to_human_bytes(repaired.written_bytes) + " written; proving it again");
}

/// Nobody is to take silence for a proof: every file is told as unproven.
[[noreturn]] void tell_nothing_to_verify_against(const ProofRequest& request, const FoundExpectations& found,
                                                 const Invocation& invocation) {
  Console& console = invocation.console;
  const fs::path path = request.path;
  if (fs::is_directory(path)) {
    ProgressLine progress(console);
    tell_files(prove(found, request.how, progress, invocation.stop), console);
  } else {
    verify::Report report;
    report.files.push_back({path.filename().string(),
                            verify::FileState::unproven,
                            fs::file_size(path),
                            "has nothing to be compared with",
                            {}});
    tell_files(report, console);
  }
  throw base::Error(base::ErrorKind::verification,
                    request.path +
                        ": there is nothing to verify against: no torrent, manifest or checksums "
                        "found; name them with --torrent, --manifest or --sums");
}

Proof prove_release(const ProofRequest& request, const Invocation& invocation) {
  Console& console = invocation.console;
  auto found = find_expectations(request.path, request.sources, console);
  if (found.empty()) {
    refuse_acting_pickles(find_acting_pickles(request.path, {}));
    tell_nothing_to_verify_against(request, found, invocation);
  }
  for (const auto& source : found.found_in) console.note("against " + source);
  ProgressLine progress(console);
  Proof proof;
  proof.signatures = found.signatures;
  proof.report = prove(found, request.how, progress, invocation.stop);
  console.clear_status();
  if (request.repair && can_repair(proof.report)) {
    if (!found.expectations.layout) {
      fetch_torrent(found, request.network, console, invocation.stop);
      proof.report = prove(found, request.how, progress, invocation.stop);  // which says where it is wrong
      console.clear_status();
    }
    tell_damage(proof.report, console);
    proof.repaired = repair_release(found, proof.report, request.network, console, invocation.stop);
    tell_repair(*proof.repaired, console);
    proof.report = prove(found, request.how, progress, invocation.stop);
    console.clear_status();
  }
  if (request.repair && proof.report.ok) clean_up_repair(found);
  return proof;
}

Proof prove_container(const ProofRequest& request, const Invocation& invocation) {
  Console& console = invocation.console;
  const ContainerTrust trust(request.path, request.sources, console);
  ProgressLine progress(console);
  Proof proof;
  proof.signatures = trust.signatures();
  proof.root_pinned_by = trust.manifest_path();
  proof.report = verify::verify_container(request.path, request.how, progress, invocation.stop);
  console.clear_status();
  if (request.repair && can_repair(proof.report)) {
    tell_damage(proof.report, console);
    const auto mended = repair_container(request.path, proof.report, request.release,
                                         request.how.thread_count, console, invocation.stop);
    proof.repaired = {0, mended.written_bytes};
    tell_repair(*proof.repaired, console);
    proof.report = verify::verify_container(request.path, request.how, progress, invocation.stop);
    console.clear_status();
  }
  trust.require_pinned(proof.report);
  if (!proof.report.ok) return proof;
  proof.chain = check_chain(request.path, request.sources, true, request.how, invocation);
  proof.report.ok = !differs(proof.chain);
  return proof;
}

}  // namespace

Proof prove_path(const ProofRequest& request, const Invocation& invocation) {
  // A container can itself be a file of a release, or of a list.
  const bool alone =
      is_container(request.path) && !speaks_of(request.path, request.sources, invocation.console);
  return alone ? prove_container(request, invocation) : prove_release(request, invocation);
}

}  // namespace sluice::cli
