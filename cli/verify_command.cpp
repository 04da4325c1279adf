#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/expectations.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "cli/stopwatch.h"
#include "format/container_reader.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

verify::Report prove_path(const fs::path& path, const ExpectationSources& sources,
                          const verify::Options& options, const Invocation& invocation) {
  ProgressLine progress(invocation.console);
  const bool container =
      fs::is_regular_file(path) && (path.extension() == ".sluice" || format::is_container(path));
  if (container && sources.empty()) {
    return verify::verify_container(path, options, progress, invocation.stop);
  }
  const auto found = find_expectations(path, sources, invocation.console);
  if (found.empty()) {
    throw base::Error(base::ErrorKind::verification,
                      path.string() +
                          ": there is nothing to verify against: no torrent, manifest or checksums "
                          "found; name them with --torrent, --manifest or --sums");
  }
  for (const auto& source : found.found_in) invocation.console.note("against " + source);
  return prove(found, options, progress, invocation.stop);
}

}  // namespace

int verify_command(const Invocation& invocation) {
  Console& console = invocation.console;
  std::string path;
  ExpectationSources sources;
  verify::Options verify_options;
  Options options("verify", "Proves a release folder or a .sluice file and names what is damaged.",
                  "sluice verify downloads/mixtral-8x7b-32kseqlen");
  auto& app = options.app();
  app.add_option("PATH", path, "Release folder, file of a single-file release, or .sluice file")->required();
  app.add_option("--torrent", sources.torrent, "Prove against this .torrent");
  app.add_option("--manifest", sources.manifest, "Prove against this manifest, a file or a release name");
  app.add_option("--sums", sources.sums, "Prove against this SHA256SUMS or md5sum list");
  app.add_flag("--strict", verify_options.strict, "Files that nothing speaks of are a failure, too");
  options.add_bytes("--memory", verify_options.memory_bytes, "Memory for buffers (default: 64MiB)");
  options.add_threads(verify_options.thread_count);
  options.parse(invocation);

  if (!fs::exists(path)) throw base::Error(base::ErrorKind::usage, path + ": does not exist");
  const Stopwatch watch;
  const auto report = prove_path(path, sources, verify_options, invocation);
  console.clear_status();
  tell_files(report, console);
  console.event(report_result(report, watch.seconds()));
  console.print(report_summary(report));
  if (report.ok && !report.root_sha256.empty()) {
    console.print("consistent with itself; nothing outside the file pins its root " + report.root_sha256);
  }
  return report.ok ? 0 : base::exit_code(base::ErrorKind::verification);
}

}  // namespace sluice::cli
