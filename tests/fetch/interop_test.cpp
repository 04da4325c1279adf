// Other people's clients, from Debian's packages: python3-libtorrent as seeder, aria2 as downloader.

#include <doctest/doctest.h>

#include "tests/fetch/child_process.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/tiny_tracker.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

/// Makes a torrent of argv[1] of version argv[2], writes it to argv[3], seeds it and prints the port.
constexpr const char* kPythonSeeder = R"(
import libtorrent as lt, os, sys, time
folder, version, output = sys.argv[1:4]
files = lt.file_storage()
lt.add_files(files, folder)
flags = {'v1': {'flags': lt.create_torrent.v1_only}, 'v2': {'flags': lt.create_torrent.v2_only}, 'hybrid': {}}
torrent = lt.create_torrent(files, 32768, **flags[version])
lt.set_piece_hashes(torrent, os.path.dirname(folder))
content = lt.bencode(torrent.generate())
open(output, 'wb').write(content)
session = lt.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False, 'allow_multiple_connections_per_ip': True})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(output)
params.save_path = os.path.dirname(folder)
params.flags = lt.torrent_flags.seed_mode
session.add_torrent(params)
while session.listen_port() == 0:
    time.sleep(0.01)
print(session.listen_port(), flush=True)
time.sleep(60)
)";

}  // namespace

TEST_CASE("a release seeded by python3-libtorrent is fetched in every version") {
  const std::string python = "/usr/bin/python3";  // Debian's, for which the package is
  if (!find_program("python3") || ChildProcess({python, "-c", "import libtorrent"}, true).wait() != 0) {
    MESSAGE("SKIPPED: python3-libtorrent is not installed");
    return;
  }
  for (const std::string version : {"v1", "v2", "hybrid"}) {
    CAPTURE(version);
    const TempDir dir;
    write_files(dir / "model", sample_files());
    ChildProcess seeder({python, "-c", kPythonSeeder, dir / "model", version, dir / "model.torrent"});
    const auto port = seeder.read_line();
    REQUIRE(port.has_value());
    const auto layout = fetch::read_torrent(dir / "model.torrent");
    CHECK(layout.infohash_v1.has_value() == (version != "v2"));
    CHECK(layout.infohash_v2.has_value() == (version != "v1"));
    RecordingObserver observer;
    const auto result =
        fetch::fetch(make_request(dir / "model.torrent", dir / "out", {"127.0.0.1:" + *port}), observer, {});
    CHECK((read_files(result.path) == sample_files()));
  }
}

TEST_CASE("aria2 downloads what seed shares, and fetch finds it by a tracker that the user named") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const auto published = publish_folder(dir / "model", true);
  const SeedThread seeder(published.torrent, dir.path());
  const TinyTracker tracker(seeder.port());

  auto request = make_request(published.magnet, dir / "ours", {});
  request.trackers = {tracker.url()};
  RecordingObserver observer;
  CHECK((read_files(fetch::fetch(request, observer, {}).path) == sample_files()));

  const auto aria2 = find_program("aria2c");
  if (!aria2) {
    MESSAGE("SKIPPED: aria2 is not installed");
    return;
  }
  ChildProcess child(
      {*aria2, "--dir=" + (dir / "theirs").string(), "--seed-time=0", "--enable-dht=false",
       "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--bt-stop-timeout=20",
       "--listen-port=20000-29999", "--no-conf", "--bt-tracker=" + tracker.url(), published.torrent.string()},
      true);
  std::string output;
  while (const auto line = child.read_line()) output += *line + '\n';
  CHECK_MESSAGE(child.wait() == 0, output);
  CHECK((read_files(dir / "theirs/model") == sample_files()));
}
