// References are read before the network is used, so that a bad signature costs no download. The manifest is
// compared with the torrent as soon as the metadata is there (TorrentCheck), before any payload is asked for:
// a magnet link alone says nothing about the manifest.

#include "library/fetch_release.h"

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "library/infohash.h"
#include "library/placed_fetch.h"
#include "library/reference_reader.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

/// Refuses a torrent that the manifest does not name; forwards everything else.
class TorrentCheck final : public fetch::FetchObserver {
 public:
  TorrentCheck(fetch::FetchObserver& observer, const format::Manifest& manifest)
      : observer_(observer), manifest_(manifest) {}

  void on_layout(const format::ReleaseLayout& layout) override {
    // An Error thrown here ends the fetch. A magnet link alone names no files, so an earlier comparison is
    // not possible.
    require_named(manifest_, layout);
    observer_.on_layout(layout);
  }
  void on_preflight(const fetch::Preflight& preflight) override { observer_.on_preflight(preflight); }
  void on_swarm(const fetch::Swarm& swarm) override { observer_.on_swarm(swarm); }
  void on_status(const fetch::FetchStatus& status) override { observer_.on_status(status); }
  void on_warning(std::string_view message) override { observer_.on_warning(message); }

 private:
  fetch::FetchObserver& observer_;
  const format::Manifest& manifest_;
};

/// The manifest and signature of a release, which are known before it is fetched.
struct KnownRelease {
  std::optional<format::Manifest> manifest;
  std::optional<SignatureReport> signature;
};

/// The named manifest, that of a known release, or NAME.manifest.json beside NAME.torrent; empty without one.
fs::path find_manifest(const FetchReleaseRequest& request, const Source& source, const Folders& folders) {
  if (!request.manifest.empty()) return find_manifest_file(request.manifest, folders);
  if (source.kind == Source::Kind::release) return source.release->manifest_path;
  if (source.kind != Source::Kind::path) return {};
  // publish writes NAME.torrent and NAME.manifest.json side by side.
  fs::path beside = source.text;
  if (beside.extension() == ".torrent") beside.replace_extension();
  beside += ".manifest.json";
  std::error_code absent;
  return fs::is_regular_file(beside, absent) ? beside : fs::path();
}

KnownRelease read_references(const FetchReleaseRequest& request, const Source& source,
                             const Context& context) {
  ReferenceReader reader(request.key, context);
  KnownRelease known;
  const fs::path path = find_manifest(request, source, context.folders);
  if (!path.empty()) {
    known.manifest = reader.read_manifest(path, request.fetch.memory_bytes);
    // Without a manifest the torrent itself may be signed. It is not parsed here: fetch does that within its
    // memory limit.
  } else if (source.kind == Source::Kind::path) {
    static_cast<void>(reader.verify_torrent(source.text));
  }
  // The torrent's layout is not known yet, so a signed manifest cannot vouch for the torrent here;
  // TorrentCheck compares the two later.
  auto signatures = reader.conclude(nullptr, nullptr);
  // A magnet link has no signature of its own. Who asks for a key must not get an unsigned download.
  if (!request.key.empty() && signatures.empty()) {
    throw base::Error(base::ErrorKind::untrusted,
                      "--key: there is no signed manifest of this release; name one by --manifest");
  }
  if (!signatures.empty()) known.signature = std::move(signatures.front());
  return known;
}

/// A known release is fetched by its magnet link, whose info-hash covers all that its manifest says.
std::string choose_fetch_source(const Source& source) {
  if (source.kind == Source::Kind::path && fs::is_directory(source.text)) {
    throw base::Error(base::ErrorKind::usage,
                      source.text + ": is a folder; fetch takes a magnet link, a .torrent or a release name");
  }
  if (source.kind != Source::Kind::release) return source.text;
  auto magnet = source.release->manifest.magnet();
  if (magnet.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      source.text + ": no magnet link of this release is known" +
                          (source.release->embedded_folder ? ", it comes with the program" : ""));
  }
  return magnet;
}

}  // namespace

FetchedRelease fetch_release(const FetchReleaseRequest& request, const Context& context) {
  const Source source = find_source(request.source, context.folders);
  fetch::FetchRequest fetch_request = request.fetch;
  fetch_request.source = choose_fetch_source(source);
  // This verifies every signature at hand before the first download.
  const KnownRelease known = read_references(request, source, context);
  if (known.signature && known.signature->state == SignatureState::valid)
    context.observer.on_note(to_sentence(*known.signature));
  auto& progress = context.observer.fetch_progress();
  const PlacedFetch placed{fetch_request, source.release ? source.release->manifest.name : "", {}};
  FetchedRelease fetched;
  fetched.signature = known.signature;
  if (known.manifest) {
    TorrentCheck check(progress, *known.manifest);
    fetched.result = fetch_to_place(placed, check, context);
  } else {
    fetched.result = fetch_to_place(placed, progress, context);
  }
  context.observer.on_work_end();
  return fetched;
}

}  // namespace sluice::library
