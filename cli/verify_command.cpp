#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "cli/chain.h"
#include "cli/commands.h"
#include "cli/expectations.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/pickle_check.h"
#include "cli/progress_line.h"
#include "cli/repair.h"
#include "cli/report.h"
#include "cli/stopwatch.h"
#include "format/container_reader.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

struct VerifyOptions {
  std::string path;
  ExpectationSources sources;
  verify::Options how;
  bool repair = false;
  std::string release;  ///< that a container was made of
  NetworkOptions network;
};

void declare(Options& options, VerifyOptions& values) {
  auto& app = options.app();
  app.add_option("PATH", values.path, "Release folder, file of a single-file release, or .sluice file")
      ->required();
  app.add_option("--torrent", values.sources.torrent, "Prove against this .torrent");
  app.add_option("--manifest", values.sources.manifest,
                 "Prove against this manifest, a file or a release name");
  app.add_option("--sums", values.sources.sums, "Prove against this SHA256SUMS or md5sum list");
  app.add_option("--leaves", values.sources.leaves,
                 "Place damage to 16 KiB by this file of publish --leaves");
  app.add_flag("--strict", values.how.strict, "Files that nothing speaks of are a failure, too");
  app.add_flag("--repair", values.repair,
               "Fetch what is damaged again, by the release's torrent; of a .sluice file, convert it again");
  app.add_option("--release", values.release, "Repair a .sluice file out of this release folder");
  app.add_flag("--direct", values.how.direct, "Read past the page cache (O_DIRECT)");
  options.add_bytes("--memory", values.how.memory_bytes, "Memory for buffers (default: 64MiB)");
  options.add_threads(values.how.thread_count);
  declare_network(options, values.network);
}

bool is_container(const fs::path& path) {
  return fs::is_regular_file(path) && (path.extension() == ".sluice" || format::is_container(path));
}

/// The report on a release, and what was done about it.
struct Outcome {
  verify::Report report;
  std::optional<fetch::RepairResult> repaired;
};

void tell_repair(const fetch::RepairResult& repaired, Console& console) {
  console.event(format::Json::object({{"event", "repair"},
                                      {"downloaded_bytes", repaired.downloaded_bytes},
                                      {"written_bytes", repaired.written_bytes}}));
  console.print("repaired: " + base::to_human_bytes(repaired.downloaded_bytes) + " fetched, " +
                base::to_human_bytes(repaired.written_bytes) + " written; proving it again");
}

Outcome prove_release(const VerifyOptions& options, const Invocation& invocation) {
  Console& console = invocation.console;
  const auto found = find_expectations(options.path, options.sources, console);
  if (found.empty()) {
    refuse_acting_pickles(find_acting_pickles(options.path, {}));
    throw base::Error(base::ErrorKind::verification,
                      options.path +
                          ": there is nothing to verify against: no torrent, manifest or checksums "
                          "found; name them with --torrent, --manifest or --sums");
  }
  for (const auto& source : found.found_in) console.note("against " + source);
  ProgressLine progress(console);
  Outcome outcome{prove(found, options.how, progress, invocation.stop), std::nullopt};
  if (options.repair && can_repair(outcome.report)) {
    console.clear_status();
    tell_damage(outcome.report, console);
    outcome.repaired = repair_release(found, outcome.report, options.network, console, invocation.stop);
    tell_repair(*outcome.repaired, console);
    outcome.report = prove(found, options.how, progress, invocation.stop);
  }
  if (options.repair && outcome.report.ok) clean_up_repair(found);
  console.clear_status();
  return outcome;
}

Outcome prove_path(const VerifyOptions& options, const Invocation& invocation) {
  Console& console = invocation.console;
  if (!is_container(options.path) || speaks_of(options.path, options.sources, console))
    return prove_release(options, invocation);
  ProgressLine progress(console);
  Outcome outcome{verify::verify_container(options.path, options.how, progress, invocation.stop),
                  std::nullopt};
  console.clear_status();
  if (options.repair && can_repair(outcome.report)) {
    tell_damage(outcome.report, console);
    const auto mended = repair_container(options.path, outcome.report, options.release,
                                         options.how.thread_count, console, invocation.stop);
    outcome.repaired = {0, mended.written_bytes};
    tell_repair(*outcome.repaired, console);
    outcome.report = verify::verify_container(options.path, options.how, progress, invocation.stop);
    console.clear_status();
  }
  return outcome;
}

}  // namespace

int verify_command(const Invocation& invocation) {
  Console& console = invocation.console;
  VerifyOptions values;
  Options options("verify", "Proves a release folder or a .sluice file and names what is damaged.",
                  "sluice verify downloads/mixtral-8x7b-32kseqlen --repair");
  declare(options, values);
  options.parse(invocation);

  if (!fs::exists(values.path)) throw base::Error(base::ErrorKind::usage, values.path + ": does not exist");
  const Stopwatch watch;
  auto [report, repaired] = prove_path(values, invocation);
  std::vector<verify::ChainLink> chain;
  if (report.ok && is_container(values.path) && !speaks_of(values.path, values.sources, console))
    chain = check_chain(values.path, values.sources, true, values.how, invocation);
  report.ok = report.ok && !differs(chain);
  tell_files(report, console);
  const auto acting = find_acting_pickles(values.path, report);
  if (report.ok) refuse_acting_pickles(acting);
  for (const auto& sentence : acting) console.warn(sentence);
  print_chain(chain, console);
  auto result = report_result(report, watch.seconds());
  if (!chain.empty()) result.set("chain", chain_json(chain));
  if (repaired) {
    result.set("downloaded_bytes", repaired->downloaded_bytes);
    result.set("repaired_bytes", repaired->written_bytes);
  }
  console.event(result);
  console.print(report_summary(report));
  if (report.ok && !ok) console.print("verification FAILED: the chain to its release is broken");
  if (ok && !report.root_sha256.empty()) {
    console.print("consistent with itself; nothing outside the file pins its root " + report.root_sha256);
  }
  return ok ? 0 : base::exit_code(base::ErrorKind::verification);
}

}  // namespace sluice::cli
