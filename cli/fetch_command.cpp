// fetch, and the helper process that it starts. The parent never talks to a peer. The helper (fetch-worker)
// does, with stdin and stdout as its protocol, so it must not use the console.

#include <csignal>

#include "base/error.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/network_options.h"
#include "cli/report.h"
#include "cli/table.h"
#include "fetch/fetch.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

constexpr double kSeedRatioMax = 1e6;
constexpr double kSecondsPerMinute = 60;

struct FetchOptions {
  std::string source;
  std::string output = ".";
  bool list = false;
  std::string manifest;  ///< a file, or the name of a known release
  std::string key;
  NetworkOptions network;
  fetch::FetchRequest request;
};

void declare(Options& options, FetchOptions& values) {
  auto& request = values.request;
  options.add_argument("SOURCE", values.source,
                       "Magnet link, info-hash, path or URL of a .torrent, text file with a link, or a name "
                       "that sluice releases lists");
  options.group("Files");
  options.add_text("-o,--output DIR", values.output, "Folder in which the release's folder is made");
  options.add_list("--select GLOB", request.select, "Download only files that match GLOB");
  options.add_list("--exclude GLOB", request.exclude, "Do not download files that match GLOB");
  options.add_flag("--overwrite", request.overwrite,
                   "Replace files in DIR that are not this release's; without it they end the fetch");
  options.add_flag("--recheck", request.recheck,
                   "Hash all files that are there, whatever the record of an earlier run says");
  options.add_flag("--list", values.list, "List the files, and download none");
  options.add_flag("--dry-run", request.dry_run, "Download and check the metadata only");
  // These options are about files, which the other two do not touch.
  for (const char* const files : {"--overwrite", "--recheck"})
    for (const char* const none : {"--list", "--dry-run"}) options.exclude(files, none);
  options.group("Trust");
  options.add_text("--manifest FILE", values.manifest,
                   "Accept only the torrent that this manifest names; a file or a release name");
  options.add_text("--key KEY", values.key,
                   "Accept only a manifest signed by this key; a public key file or its line of base64");
  declare_network(options, values.network);
  options.group("Sharing after the download");
  options.add_number("--seed-ratio R", request.seed_ratio, 0, kSeedRatioMax,
                     "Seed until R times the size has been sent (default: do not seed)");
  options.add_duration("--seed-time TIME", request.seed_time_min, kSecondsPerMinute,
                       "Seed for TIME after the download, such as 1h30m; minutes without a unit (default: do "
                       "not seed)");
  options.group("Memory");
  options.add_size("--memory SIZE", request.memory_bytes, "Memory limit of all processes together");
}

Json make_result(const library::FetchedRelease& release, double seconds) {
  const auto& fetched = release.result;
  auto result = Json::object({{"event", "result"},
                              {"path", fetched.path.string()},
                              {"torrent", fetched.torrent.string()},
                              {"infohash_v1", hex_or_null(fetched.layout.infohash_v1)},
                              {"infohash_v2", hex_or_null(fetched.layout.infohash_v2)},
                              {"bytes", fetched.layout.payload_bytes()},
                              {"downloaded_bytes", fetched.downloaded_bytes},
                              {"rehashed_bytes", fetched.rehashed_bytes},
                              {"adopted_bytes", fetched.adopted_bytes},
                              {"files", fetched.file_count},
                              {"wanted_files", fetched.wanted_files},
                              {"wanted_bytes", fetched.wanted_bytes},
                              {"proven_now_bytes", fetched.wanted_bytes - fetched.believed_bytes},
                              {"seconds", seconds}});
  if (release.signature) result.set("signature", signature_json(*release.signature));
  return result;
}

/// Tells how much is complete, and how much of it was hashed in this run. Every piece was hashed when it
/// arrived, and the journal says which of them are on the disk: nothing is read again.
std::string summarize(const fetch::FetchResult& fetched) {
  const bool all = fetched.wanted_files == fetched.file_count;
  std::string text = "complete";
  if (!all)
    text = std::to_string(fetched.wanted_files) + " of " + base::to_counted(fetched.file_count, "file") +
           " fetched";
  if (fetched.believed_pieces == 0) text += all ? ", every piece proven" : " and proven";
  if (!all) text += " (" + base::to_human_bytes(fetched.wanted_bytes) + ")";
  if (fetched.believed_pieces > 0)
    text += "; " + std::to_string(fetched.wanted_pieces - fetched.believed_pieces) + " of " +
            base::to_counted(fetched.wanted_pieces, "piece") +
            " proven now, the rest taken from the record of an earlier run (--recheck hashes all)";
  if (fetched.adopted_bytes > 0)
    text += "; " + base::to_human_bytes(fetched.adopted_bytes) + " were there already and verify";
  return text + "; " + base::to_human_bytes(fetched.downloaded_bytes) + " fetched";
}

void list_files(const format::ReleaseLayout& layout, Console& console) {
  Table table({0});
  for (const auto& file : layout.files) {
    // Pad files (BEP 47) are zeros between the files of a v1 torrent and never on disk.
    if (file.pad) continue;
    console.event(Json::object({{"event", "file"}, {"path", file.path}, {"bytes", file.length_bytes}}));
    table.add_row({base::to_human_bytes(file.length_bytes), base::to_printable(file.path)});
  }
  console.print(table);
}

}  // namespace

int fetch_command(const Invocation& invocation) {
  Console& console = invocation.console;
  FetchOptions values;
  Options options("fetch",
                  "Downloads a release and verifies every piece. An interrupted download is resumed.",
                  "sluice fetch 'magnet:?xt=urn:btih:...' -o downloads --limit-down 10M/s");
  declare(options, values);
  options.parse(invocation);

  auto& request = values.request;
  request.output_folder = values.output;
  apply(values.network, console, request);
  // --list needs the metadata alone.
  request.dry_run = request.dry_run || values.list;

  const base::Stopwatch watch;
  const LibraryAccess access(invocation);
  // The library decides which torrent is meant and verifies signatures before the first byte of payload.
  const auto release =
      library::fetch_release({values.source, values.manifest, values.key, request}, access.context());
  const auto& fetched = release.result;
  if (request.dry_run) {
    if (values.list) list_files(fetched.layout, console);
    console.event(make_result(release, watch.seconds()));
    return 0;
  }
  console.event(make_result(release, watch.seconds()));
  console.print(fetched.path.string() + ": " + summarize(fetched));
  return 0;
}

int fetch_worker_command(const Invocation&) {
  // Ctrl-C reaches the whole process group; the parent decides when its helper ends.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_DFL);
  return fetch::run_worker();
}

}  // namespace sluice::cli
