// seed: shares a release until it is stopped. The command only finds the folder and prints; fetch::seed()
// checks that the release is complete and talks to peers.

#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/library_observer.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "fetch/fetch.h"
#include "format/manifest.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// Peers and firewalls need to know a port, so there is a usual one: the first of the range that BitTorrent
// has used from the beginning.
constexpr int kUsualPort = 6881;
constexpr int kPortMax = 65535;

class SeedObserver final : public fetch::SeedObserver {
 public:
  SeedObserver(const format::ReleaseLayout& layout, const std::vector<std::string>& trackers,
               Console& console)
      : console_(console), line_(console), layout_(layout) {
    format::Manifest manifest;
    manifest.torrent_name = layout.name;
    manifest.infohash_v1 = layout.infohash_v1;
    manifest.infohash_v2 = layout.infohash_v2;
    manifest.trackers = trackers;
    magnet_ = manifest.magnet();
  }

  void on_listening(int port) override {
    console_.event(format::Json::object({{"event", "listening"},
                                         {"port", port},
                                         {"name", layout_.name},
                                         {"infohash_v1", hex_or_null(layout_.infohash_v1)},
                                         {"infohash_v2", hex_or_null(layout_.infohash_v2)},
                                         {"magnet", magnet_}}));
    console_.print("sharing " + layout_.name + ", " + base::to_human_bytes(layout_.payload_bytes()));
    console_.print("magnet  " + magnet_);
    // With --port 0 the system chooses the port, so others can learn it only from here.
    console_.print("listening on port " + std::to_string(port));
  }
  void on_status(std::uint64_t uploaded_bytes, std::uint64_t rate_bytes_per_s, unsigned peers) override {
    uploaded_bytes_ = uploaded_bytes;
    // Seeding has no end, so the total is 0 (not known).
    line_.show({"seeding", uploaded_bytes, 0, static_cast<double>(rate_bytes_per_s), peers, true});
  }
  void on_warning(std::string_view message) override { console_.warn(message); }

  [[nodiscard]] std::uint64_t uploaded_bytes() const { return uploaded_bytes_; }

 private:
  Console& console_;
  ProgressLine line_;
  const format::ReleaseLayout& layout_;
  std::string magnet_;
  std::uint64_t uploaded_bytes_ = 0;
};

// Finds the folder in which the release lies: beside the torrent, or one level up when the torrent is in
// .sluice/. The user may name that folder or the release's own folder.
fs::path find_folder(const fs::path& torrent, const fs::path& given, const std::string& name) {
  const auto beside = fs::absolute(torrent).parent_path();
  const auto start = given.empty() ? beside : fs::absolute(given).lexically_normal();
  // "DIR/" and "DIR" name the same folder.
  const auto named = start.has_filename() ? start : start.parent_path();
  // The order decides when several places have the name: the folder that contains the release comes before
  // the release's own folder.
  if (fs::exists(start / name)) return start;
  if (given.empty() && fs::exists(beside.parent_path() / name)) return beside.parent_path();
  if (!given.empty() && named.filename() == name && fs::exists(named)) return named.parent_path();
  throw base::Error(base::ErrorKind::usage, (start / name).string() +
                                                ": does not exist; name the folder in which '" +
                                                base::to_printable(name) + "' lies");
}

}  // namespace

int seed_command(const Invocation& invocation) {
  Console& console = invocation.console;
  std::string torrent;
  std::string folder;
  bool no_dht = false;
  bool no_pex = false;
  bool no_lsd = false;
  fetch::SeedRequest request;
  std::optional<int> port;
  Options options("seed", "Shares a release with other peers until it is stopped.",
                  "sluice seed my-model.torrent\n"
                  "sluice seed mixtral-8x7b --limit-up 5M/s");
  options.add_argument(
      "TORRENT", torrent,
      "A .torrent file, a release folder with its torrent near it, or the name, info-hash or "
      "magnet link of a release that was fetched");
  options.add_optional_argument(
      "DIR", folder, "Folder that contains the release's folder (default: where the torrent lies)");
  options.group("Network");
  options.add_integer(
      "--port PORT", port, 0, kPortMax,
      "TCP and UDP port to listen on; 0 for any free one (default: 6881, or any free one when it "
      "is taken)");
  options.add_text("--listen ADDRESS", request.listen_address,
                   "Listen only on this IP address (default: all)");
  options.add_list("--tracker URL", request.trackers, "Additional tracker to announce to");
  options.add_size("--limit-up RATE", request.limit_up_bytes_per_s,
                   "Upload limit per second (default: none)");
  options.add_flag("--no-dht", no_dht, "Do not use the distributed hash table");
  options.add_flag("--no-pex", no_pex, "Do not exchange peer addresses with peers");
  options.add_flag("--no-lsd", no_lsd, "Do not announce in the local network");
  options.parse(invocation);

  const LibraryAccess access(invocation);
  const auto shared = library::find_shared(torrent, access.context());
  request.torrent = shared.torrent;
  request.port = port.value_or(kUsualPort);
  request.any_port_if_taken = !port;
  // The torrent is read here for its name and info-hash alone.
  const auto layout = fetch::read_torrent(request.torrent);
  request.folder = folder.empty() && !shared.folder.empty()
                       ? shared.folder
                       : find_folder(request.torrent, folder, layout.name);
  request.dht = !no_dht;
  request.pex = !no_pex;
  request.lsd = !no_lsd;
  request.cache_folder = cache_folder();
  SeedObserver observer(layout, request.trackers, console);
  fetch::seed(request, observer, invocation.stop);
  console.clear_status();
  console.event(format::Json::object({{"event", "result"}, {"uploaded_bytes", observer.uploaded_bytes()}}));
  console.note(base::to_human_bytes(observer.uploaded_bytes()) + " sent");
  return 0;
}

}  // namespace sluice::cli
