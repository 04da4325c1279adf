#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/manifest_facts.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "fetch/fetch.h"

namespace sluice::cli {

int publish_command(const Invocation& invocation) {
  Console& console = invocation.console;
  std::string folder;
  std::string torrent;
  fetch::PublishRequest request;
  Options options("publish", "Makes the torrent, the magnet link and the manifest of a release.",
                  "sluice publish my-model --tracker udp://tracker.example.org:6969/announce");
  auto& app = options.app();
  app.add_option("DIR", folder, "Release folder, or a single file")->required();
  app.add_option("-o,--output", torrent, "The .torrent (default: DIR.torrent beside DIR)");
  options.add_list("--tracker", request.trackers, "Tracker URL");
  options.add_list("--web-seed", request.web_seeds, "URL of the same files on a web server (BEP 19)");
  options.add_bytes("--piece-size", request.piece_bytes, "A power of two, at least 16KiB (default: by size)");
  app.add_flag(
      "--v1-only", request.v1_only,
      "Without BitTorrent v2's hash trees, for old clients; beside a hybrid one give it another name by -o");
  app.add_flag("--leaves", request.leaves,
               "Also a file of all block hashes, by which verify places damage to 16 KiB");
  ManifestFacts facts;
  declare_facts(options, facts);
  options.add_threads(request.thread_count);
  options.parse(invocation);

  if (!std::filesystem::exists(folder))
    throw base::Error(base::ErrorKind::usage, folder + ": does not exist");
  request.folder = folder;
  request.torrent = torrent;
  add_facts(facts, request.facts);
  add_tensors(folder, request.thread_count, console, invocation.stop, request.facts);
  ProgressLine progress(console);
  const auto published = fetch::publish(request, progress, invocation.stop);
  console.clear_status();
  const auto& layout = published.layout;
  const auto hex = [](const auto& digest) {
    return digest ? format::Json(base::to_hex(*digest)) : format::Json();
  };
  auto result = format::Json::object({{"event", "result"},
                                      {"torrent", published.torrent.string()},
                                      {"magnet", published.magnet},
                                      {"infohash_v1", hex(layout.infohash_v1)},
                                      {"infohash_v2", hex(layout.infohash_v2)},
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
  return 0;
}

}  // namespace sluice::cli
