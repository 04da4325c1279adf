// verify: declares the options, lets the library verify and repair, and prints the findings. Signs of damage
// are printed before the exit code is decided, so that a failure always comes with its list of files.

#include <algorithm>

#include "base/error.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/pickle_check.h"
#include "cli/report.h"
#include "cli/write_sums.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

struct VerifyOptions {
  std::string path;
  std::string release;
  NetworkOptions network;
  library::VerifyRequest verify;
  bool write_sums = false;
  WriteSumsRequest sums;
};

void declare(Options& options, VerifyOptions& values) {
  library::VerifyRequest& request = values.verify;
  options.add_argument("PATH", values.path,
                       "Release folder, file of a release, .sluice file, or a name that sluice releases or "
                       "sluice models lists");
  options.group("References");
  options.add_text("--torrent FILE", request.references.torrent, "Verify against this .torrent");
  options.add_text("--manifest FILE", request.references.manifest,
                   "Verify against this manifest; a file or a release name");
  options.add_text("--sums FILE", request.references.sums,
                   "Verify against this list of SHA-256 or MD5 checksums");
  options.add_text("--leaves FILE", request.references.leaves,
                   "File of block hashes from publish --leaves; it locates damage to 16 KiB");
  options.add_text("--key KEY", request.references.key,
                   "Accept only references signed by this key; a public key file or its line of base64");
  options.add_flag("--strict", request.options.strict, "Treat files that no reference lists as failures");
  options.group("Repair");
  options.add_flag("--repair", request.repair,
                   "Download what is damaged again; convert damaged parts of a .sluice file again");
  options.add_text("--release DIR", values.release, "Release folder to repair a .sluice file from");
  options.group("Writing references");
  options.add_flag("--write-sums", values.write_sums,
                   "Record what the release holds, in PATH.SHA256SUMS and PATH.manifest.json");
  options.add_text("-o,--output STEM", values.sums.output,
                   "With --write-sums: write STEM.SHA256SUMS and STEM.manifest.json");
  options.add_flag("--overwrite", values.sums.overwrite, "With --write-sums: replace files that differ");
  // These options would be ignored without --write-sums; an error shows the mistake.
  options.require("--output", "--write-sums");
  options.require("--overwrite", "--write-sums");
  declare_facts(options, values.sums.facts);
  declare_network(options, values.network);
  options.group("Reading, memory and threads");
  options.add_flag("--direct", request.options.direct, "Bypass the page cache (O_DIRECT)");
  options.add_size("--memory SIZE", request.options.memory_bytes, "Memory for buffers");
  options.add_threads(request.options.thread_count);
  options.add_note(
      "Marks of files: = verified, * damaged, - missing, + not part of the release, ! unreadable, "
      "? nothing to compare with, ~ changed while it was read.");
}

bool can_be_repaired(const verify::Report& report) {
  return std::ranges::any_of(report.files, [](const verify::FileReport& file) {
    return file.state == verify::FileState::damaged || file.state == verify::FileState::missing;
  });
}

/// Says who vouches for what was verified.
void print_trust(const library::Verification& verified, Console& console) {
  const auto& root = verified.report.root_sha256;
  // The first signature is the weakest one (Verification::signatures), so it decides.
  const bool is_signed = verified.signatures.front().state == library::SignatureState::valid;
  // A container that matches its own digests can still be a forgery: whoever changes weights can compute new
  // digests.
  if (!root.empty() && !is_signed && verified.root_pinned_by.empty()) {
    console.print("intact; no signature and no manifest vouches for its root " + root);
    return;
  }
  for (const auto& signature : verified.signatures) {
    // A torrent is hardly ever signed: its info-hash is what people compare.
    const bool unsigned_torrent =
        signature.state == library::SignatureState::none && signature.file.ends_with(".torrent");
    if (!unsigned_torrent) console.print(to_sentence(signature));
  }
  if (root.empty()) return;
  switch (verified.pinned) {
    case verify::PinCoverage::nothing: console.print("root " + root); return;
    case verify::PinCoverage::everything:
      console.print("root " + root + " is pinned by " + verified.root_pinned_by);
      return;
    case verify::PinCoverage::weights:
      console.print(verified.root_pinned_by + " names " + verified.report.tensors_sha256 +
                    ", a root of container version 1: it " + std::string(verify::kPinsWeightsOnly));
      return;
  }
}

format::Json make_result(const library::Verification& verified, double seconds) {
  auto result = result_json(verified.report, seconds);
  if (!verified.chain.empty()) result.set("chain", chain_json(verified.chain));
  if (!verified.signatures.empty()) result.set("signature", signature_json(verified.signatures.front()));
  if (!verified.root_pinned_by.empty()) {
    result.set("root_pinned_by", verified.root_pinned_by);
    result.set("pinned", verified.pinned == verify::PinCoverage::everything ? "everything" : "weights");
  }
  if (verified.repaired) {
    result.set("downloaded_bytes", verified.repaired->downloaded_bytes);
    result.set("repaired_bytes", verified.repaired->written_bytes);
  }
  return result;
}

[[noreturn]] void refuse_without_references(const fs::path& path, const library::Verification& verified,
                                            Console& console) {
  // A pickle that runs code is the graver finding, and it needs no reference, so it is reported first.
  refuse_acting_pickles(find_acting_pickles(path, {}));
  // One line stands for all files of a folder, which may be somebody's home.
  constexpr std::size_t kFilesShown = 3;
  const auto& files = verified.report.files;
  if (console.json() || files.size() <= kFilesShown) {
    print_files(verified.report, console);
  } else {
    console.print("? " + path.string() + ": " + base::to_counted(files.size(), "file") + ", " +
                  base::to_human_bytes(verified.report.bytes) + ", with nothing to compare them with");
  }
  const auto& unusable = verified.unusable_references;
  if (!unusable.empty())
    throw base::Error(base::ErrorKind::verification,
                      path.string() + ": there is nothing to verify against, since " +
                          base::to_counted(unusable.size(), "reference") + " cannot be used: " +
                          unusable.front() + "; name another with --torrent, --manifest or --sums");
  throw base::Error(base::ErrorKind::verification,
                    path.string() +
                        ": there is nothing to verify against: no torrent, manifest or checksums "
                        "found; name them with --torrent, --manifest or --sums");
}

}  // namespace

int verify_command(const Invocation& invocation) {
  Console& console = invocation.console;
  VerifyOptions values;
  Options options("verify", "Verifies a release folder or a .sluice file and lists what is damaged.",
                  "sluice verify downloads/mixtral-8x7b-32kseqlen --repair");
  declare(options, values);
  options.parse(invocation);

  library::VerifyRequest& request = values.verify;
  const LibraryAccess access(invocation);
  request.path = library::find_local(values.path, access.context());
  request.release = values.release;
  apply(values.network, console, request.network);
  if (!values.write_sums && !values.sums.facts.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      "--licence, --source and --container are for the manifest that --write-sums makes");
  }
  if (values.write_sums)
    return write_sums(request.path, request.references, values.sums, request.options, invocation);
  const base::Stopwatch watch;
  const auto verified = library::verify_path(request, access.context());
  // Nothing was compared, which must not pass for a success.
  if (!verified.has_references) refuse_without_references(request.path, verified, console);
  print_files(verified.report, console);
  // Digests show that a file is the published one, not that it is harmless. In a damaged release the damage
  // decides the exit code, and the pickles are warnings.
  const auto acting = find_acting_pickles(request.path, verified.report);
  if (verified.report.ok) refuse_acting_pickles(acting);
  for (const auto& sentence : acting) console.warn(sentence);
  print_chain(verified.chain, console);
  console.event(make_result(verified, watch.seconds()));
  console.print(StyledText(library::summarize(verified.report), verified.report.ok ? kPlain : kBad));
  if (!request.repair && can_be_repaired(verified.report))
    console.note("to repair it: sluice verify " + values.path + " --repair");
  // Who vouches matters only for files that are right.
  if (verified.report.ok && !verified.signatures.empty()) print_trust(verified, console);
  return verified.report.ok ? 0 : base::exit_code(base::ErrorKind::verification);
}

}  // namespace sluice::cli
