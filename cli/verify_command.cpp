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
  ProofRequest& proof = values.proof;
  options.add_argument("PATH", proof.path, "Release folder, file of a release, or .sluice file");
  options.group("References");
  options.add_text("--torrent FILE", proof.sources.torrent, "Verify against this .torrent");
  options.add_text("--manifest FILE", proof.sources.manifest,
                   "Verify against this manifest; a file or a release name");
  options.add_text("--sums FILE", proof.sources.sums, "Verify against this SHA256SUMS or md5sum list");
  options.add_text("--leaves FILE", proof.sources.leaves,
                   "File of block hashes from publish --leaves; it locates damage to 16 KiB");
  options.add_text("--key KEY", proof.sources.key,
                   "Accept only references signed by this key; a public key file or its line of base64");
  options.add_flag("--strict", proof.how.strict, "Treat files that no reference lists as failures");
  options.group("Repair");
  options.add_flag("--repair", proof.repair,
                   "Download what is damaged again; convert damaged parts of a .sluice file again");
  options.add_text("--release DIR", proof.release, "Release folder to repair a .sluice file from");
  options.group("Writing references");
  options.add_flag("--write-sums", values.write_sums,
                   "Record what the release holds, in PATH.SHA256SUMS and PATH.manifest.json");
  options.add_text("-o,--output STEM", values.sums.output,
                   "With --write-sums: write STEM.SHA256SUMS and STEM.manifest.json");
  options.add_flag("--overwrite", values.sums.overwrite, "With --write-sums: replace files that differ");
  options.require("--output", "--write-sums");
  options.require("--overwrite", "--write-sums");
  declare_facts(options, values.sums.facts);
  declare_network(options, proof.network);
  options.group("Reading, memory and threads");
  options.add_flag("--direct", proof.how.direct, "Bypass the page cache (O_DIRECT)");
  options.add_size("--memory SIZE", proof.how.memory_bytes, "Memory for buffers");
  options.add_threads(proof.how.thread_count);
  options.add_note(
      "Marks of files: = verified, * damaged, - missing, + not part of the release, ! unreadable, "
      "? nothing to compare with, ~ changed while it was read.");
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
  Options options("verify", "Verifies a release folder or a .sluice file and lists what is damaged.",
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
