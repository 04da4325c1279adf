// publish: makes all references of a release at once. The tensors are digested before fetch::publish() reads
// the files, because the manifest that it writes includes them.

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/manifest_facts.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "fetch/fetch.h"

namespace sluice::cli {

namespace {

void print_published(const fetch::PublishRequest& request, const fetch::PublishResult& published,
                     Console& console) {
  const auto& layout = published.layout;
  auto result = format::Json::object({{"event", "result"},
                                      {"torrent", published.torrent.string()},
                                      {"magnet", published.magnet},
                                      {"infohash_v1", hex_or_null(layout.infohash_v1)},
                                      {"infohash_v2", hex_or_null(layout.infohash_v2)},
                                      {"manifest", published.manifest_path.string()},
                                      {"sums", published.sums.string()},
                                      {"bytes", layout.payload_bytes()}});
  if (!published.leaves.empty()) result.set("leaves", published.leaves.string());
  console.event(result);
  console.print("torrent       " + published.torrent.string());
  console.print("manifest      " + published.manifest_path.string());
  console.print("SHA256SUMS    " + published.sums.string());
  if (!published.leaves.empty()) console.print("leaves        " + published.leaves.string());
  if (layout.infohash_v1) console.print("info-hash v1  " + base::to_hex(*layout.infohash_v1));
  if (layout.infohash_v2) console.print("info-hash v2  " + base::to_hex(*layout.infohash_v2));
  console.print("magnet        " + published.magnet);
  if (request.trackers.empty())
    console.note("no tracker is named (--tracker URL): peers find the release through the DHT alone");
  console.note("to share it: sluice seed " + published.torrent.string());
}

}  // namespace

int publish_command(const Invocation& invocation) {
  Console& console = invocation.console;
  std::string folder;
  std::string torrent;
  fetch::PublishRequest request;
  Options options("publish", "Makes the torrent, magnet link, manifest and SHA256SUMS of a release.",
                  "sluice publish my-model --tracker udp://tracker.example.org:6969/announce");
  options.add_argument("DIR", folder, "Release folder, or a single file");
  options.group("Torrent");
  options.add_text("-o,--output FILE", torrent,
                   "Torrent to write, or a folder for it (default: DIR.torrent beside DIR)");
  options.add_list("--tracker URL", request.trackers, "Tracker to put into the torrent");
  options.add_list("--web-seed URL", request.web_seeds, "Web server that holds the same files (BEP 19)");
  options.add_size("--piece-size SIZE", request.piece_bytes,
                   "Piece size, a power of two from 16KiB on (default: by the release's size)");
  options.add_flag(
      "--v1-only", request.v1_only,
      "Leave out the hash trees of BitTorrent v2, for old clients. Give the torrent another name "
      "with -o if a hybrid one exists");
  options.add_flag("--leaves", request.leaves,
                   "Also write a file of all 16 KiB block hashes, with which verify locates damage exactly");
  options.add_flag("--overwrite", request.overwrite, "Replace files that are there and say something else");
  ManifestFacts facts;
  declare_facts(options, facts);
  options.group("Threads");
  options.add_threads(request.thread_count);
  options.parse(invocation);

  if (!std::filesystem::exists(folder))
    throw base::Error(base::ErrorKind::usage, folder + ": does not exist");
  request.folder = folder;
  request.torrent = torrent;
  // Facts are checked first: a bad --licence must not be found after the release was read.
  add_facts(facts, request.facts);
  // Digests of tensors read the whole release, so the outputs are looked at before.
  static_cast<void>(fetch::choose_outputs(request));
  add_tensors(folder, request.thread_count, console, invocation.stop, request.facts);
  ProgressLine progress(console);
  const auto published = fetch::publish(request, progress, invocation.stop);
  console.clear_status();
  print_published(request, published, console);
  return 0;
}

}  // namespace sluice::cli
