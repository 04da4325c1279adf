#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/pickle_check.h"
#include "cli/report.h"
#include "cli/stopwatch.h"
#include "cli/write_sums.h"
#include "library/container_chain.h"
#include "library/verification.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

struct VerifyOptions {
  ProofRequest proof;
  bool write_sums = false;
  WriteSumsRequest sums;
};

void declare(Options& options, VerifyOptions& values) {
  auto& app = options.app();
  ProofRequest& proof = values.proof;
  app.add_option("PATH", proof.path, "Release folder, file of a release, or .sluice file")->required();
  app.add_option("--torrent", proof.sources.torrent, "Prove against this .torrent");
  app.add_option("--manifest", proof.sources.manifest,
                 "Prove against this manifest, a file or a release name");
  app.add_option("--sums", proof.sources.sums, "Prove against this SHA256SUMS or md5sum list");
  app.add_option("--leaves", proof.sources.leaves, "Place damage to 16 KiB by this file of publish --leaves");
  app.add_option("--key", proof.sources.key,
                 "Only what this key signed counts: a public key file, or its line of base64");
  app.add_flag("--strict", proof.how.strict, "Files that nothing speaks of are a failure, too");
  app.add_flag("--repair", proof.repair,
               "Fetch what is damaged again, by the release's torrent; of a .sluice file, convert it again");
  app.add_option("--release", proof.release, "Repair a .sluice file out of this release folder");
  auto* writing = app.add_flag("--write-sums", values.write_sums,
                               "Put down what the release holds: PATH.SHA256SUMS and PATH.manifest.json");
  app.add_option("-o,--output", values.sums.output, "With --write-sums: STEM of the two files")
      ->needs(writing);
  app.add_flag("--overwrite", values.sums.overwrite, "With --write-sums: replace what is there and differs")
      ->needs(writing);
  declare_facts(options, values.sums.facts);
  app.add_flag("--direct", proof.how.direct, "Read past the page cache (O_DIRECT)");
  options.add_bytes("--memory", proof.how.memory_bytes, "Memory for buffers (default: 64MiB)");
  options.add_threads(proof.how.thread_count);
  declare_network(options, proof.network);
}

/// What the proof rests on, when it has succeeded.
void tell_trust(const Proof& proof, Console& console) {
  const auto& root = proof.report.root_sha256;
  const bool is_signed = proof.signatures.front().state == SignatureState::valid;
  if (!root.empty() && !is_signed && proof.root_pinned_by.empty()) {
    console.print("consistent with itself; nothing outside the file pins its root " + root);
    return;
  }
  for (const auto& signature : proof.signatures) console.print(to_sentence(signature));
  if (!root.empty()) {
    const std::string pinned = proof.root_pinned_by.empty() ? "" : " is pinned by " + proof.root_pinned_by;
    console.print("root " + root + pinned);
  }
}

format::Json make_result(const Proof& proof, double seconds) {
  auto result = report_result(proof.report, seconds);
  if (!proof.chain.empty()) result.set("chain", chain_json(proof.chain));
  if (!proof.signatures.empty()) result.set("signature", to_json(proof.signatures.front()));
  if (!proof.root_pinned_by.empty()) result.set("root_pinned_by", proof.root_pinned_by);
  if (proof.repaired) {
    result.set("downloaded_bytes", proof.repaired->downloaded_bytes);
    result.set("repaired_bytes", proof.repaired->written_bytes);
  }
  return result;
}

}  // namespace

int verify_command(const Invocation& invocation) {
  Console& console = invocation.console;
  VerifyOptions values;
  Options options("verify", "Proves a release folder or a .sluice file and names what is damaged.",
                  "sluice verify downloads/mixtral-8x7b-32kseqlen --repair");
  declare(options, values);
  options.parse(invocation);

  const ProofRequest& request = values.proof;
  if (!fs::exists(request.path)) throw base::Error(base::ErrorKind::usage, request.path + ": does not exist");
  if (!values.write_sums && !values.sums.facts.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      "--licence, --source and --container are for the manifest that --write-sums makes");
  }
  if (values.write_sums)
    return write_sums(request.path, request.sources, values.sums, request.how, invocation);
  const Stopwatch watch;
  const Proof proof = prove_path(request, invocation);
  tell_files(proof.report, console);
  const auto acting = find_acting_pickles(request.path, proof.report);
  if (proof.report.ok) refuse_acting_pickles(acting);
  for (const auto& sentence : acting) console.warn(sentence);
  print_chain(proof.chain, console);
  console.event(make_result(proof, watch.seconds()));
  console.print(report_summary(proof.report));
  if (proof.report.ok && !proof.signatures.empty()) tell_trust(proof, console);
  return proof.report.ok ? 0 : base::exit_code(base::ErrorKind::verification);
}

}  // namespace sluice::cli
