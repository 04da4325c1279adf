#include <csignal>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/fetch_observer.h"
#include "cli/network_options.h"
#include "cli/stopwatch.h"
#include "cli/table.h"
#include "fetch/fetch.h"
#include "library/model_source.h"
#include "library/reference_reader.h"
#include "library/references.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

constexpr double kSeedRatioMax = 1e6;
constexpr double kSeedMinutesMax = 1e9;

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
                       "Magnet link, path or URL of a .torrent, or a name that sluice releases lists");
  options.group("Files");
  options.add_text("-o,--output DIR", values.output, "Folder in which the release's folder is made");
  options.add_list("--select GLOB", request.select, "Download only files that match GLOB");
  options.add_list("--exclude GLOB", request.exclude, "Do not download files that match GLOB");
  options.add_flag("--list", values.list, "List the files, and download none");
  options.add_flag("--dry-run", request.dry_run, "Download and check the metadata only");
  options.group("Trust");
  options.add_text("--manifest FILE", values.manifest,
                   "Accept only the torrent that this manifest names; a file or a release name");
  options.add_text("--key KEY", values.key,
                   "Accept only a manifest signed by this key; a public key file or its line of base64");
  declare_network(options, values.network);
  options.group("Sharing after the download");
  options.add_number("--seed-ratio R", request.seed_ratio, 0, kSeedRatioMax,
                     "Seed until R times the size has been sent (default: do not seed)");
  options.add_number("--seed-time MINUTES", request.seed_time_min, 0, kSeedMinutesMax,
                     "Seed for MINUTES after the download (default: do not seed)");
  options.group("Memory");
  options.add_size("--memory SIZE", request.memory_bytes, "Memory limit of all processes together");
}

/// What is known of the release before it is fetched, and believed.
struct Known {
  std::optional<format::Manifest> manifest;
  std::optional<SignatureReport> signature;
};

/// The manifest that was named, that of a known release, or NAME.manifest.json beside NAME.torrent.
fs::path find_manifest(const FetchOptions& values, const Source& source) {
  if (!values.manifest.empty()) return find_manifest_file(values.manifest);
  if (source.kind == Source::Kind::release) return source.release->manifest_path;
  if (source.kind != Source::Kind::path) return {};
  fs::path beside = source.text;
  if (beside.extension() == ".torrent") beside.replace_extension();
  beside += ".manifest.json";
  std::error_code absent;
  return fs::is_regular_file(beside, absent) ? beside : fs::path();
}

/// All that a stranger wrote is judged here, before the first byte is asked for.
Known judge(const FetchOptions& values, const Source& source, Console& console) {
  StatementReader statements(values.key, console);
  Known known;
  const fs::path path = find_manifest(values, source);
  if (!path.empty()) {
    known.manifest = statements.read_manifest(path);
  } else if (source.kind == Source::Kind::path) {
    statements.take_torrent(source.text);
  }
  auto reports = statements.conclude(nullptr, nullptr);
  if (!values.key.empty() && reports.empty()) {
    throw base::Error(base::ErrorKind::untrusted,
                      "--key: there is no signed manifest of this release; name one by --manifest");
  }
  if (!reports.empty()) known.signature = std::move(reports.front());
  return known;
}

// A known release is fetched by its magnet link, whose info-hash proves all that its manifest says.
void resolve_source(FetchOptions& values, const Source& source) {
  values.request.source = source.text;
  if (source.kind == Source::Kind::path && std::filesystem::is_directory(source.text)) {
    throw base::Error(base::ErrorKind::usage,
                      source.text + ": is a folder; fetch takes a magnet link, a .torrent or a release name");
  }
  if (source.kind != Source::Kind::release) return;
  values.request.source = source.release->manifest.magnet();
  if (values.request.source.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      values.source + ": no magnet link of this release is known" +
                          (source.release->embedded_folder ? ", it comes with the program" : ""));
  }
}

Json infohash_json(const auto& digest) { return digest ? Json(base::to_hex(*digest)) : Json(nullptr); }

Json make_result(const fetch::FetchResult& fetched, const Known& known, double seconds) {
  auto result = Json::object({{"event", "result"},
                              {"path", fetched.path.string()},
                              {"torrent", fetched.torrent.string()},
                              {"infohash_v1", infohash_json(fetched.layout.infohash_v1)},
                              {"infohash_v2", infohash_json(fetched.layout.infohash_v2)},
                              {"bytes", fetched.layout.payload_bytes()},
                              {"downloaded_bytes", fetched.downloaded_bytes},
                              {"rehashed_bytes", fetched.rehashed_bytes},
                              {"seconds", seconds}});
  if (known.signature) result.set("signature", to_json(*known.signature));
  return result;
}

void list_files(const format::ReleaseLayout& layout, Console& console) {
  Table table({0});
  for (const auto& file : layout.files) {
    if (file.pad) continue;
    console.event(Json::object({{"event", "file"}, {"path", file.path}, {"bytes", file.length_bytes}}));
    table.add_row({base::to_human_bytes(file.length_bytes), base::to_printable(file.path)});
  }
  console.write(table.text());
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

  const Source source = find_source(values.source);
  resolve_source(values, source);
  const Known known = judge(values, source, console);
  if (known.signature && known.signature->state == SignatureState::valid)
    console.note(to_sentence(*known.signature));
  auto& request = values.request;
  request.output_folder = values.output;
  apply(values.network, request);
  request.dry_run = request.dry_run || values.list;
  request.worker_command = worker_command();

  const Stopwatch watch;
  FetchObserver observer(console, known.manifest ? &*known.manifest : nullptr);
  const auto fetched = fetch::fetch(request, observer, invocation.stop);
  console.clear_status();
  if (request.dry_run) {
    if (values.list) list_files(fetched.layout, console);
    console.event(make_result(fetched, known, watch.seconds()));
    return 0;
  }
  // Every piece was hashed as it arrived, and judged by the journal; there is no need to read them again.
  console.event(make_result(fetched, known, watch.seconds()));
  console.print(fetched.path.string() + ": complete, every piece proven; " +
                base::to_human_bytes(fetched.downloaded_bytes) + " fetched");
  return 0;
}

int fetch_worker_command(const Invocation&) {
  // Ctrl-C reaches the whole process group; the parent decides when its helper ends.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_DFL);
  return fetch::run_worker();
}

}  // namespace sluice::cli
