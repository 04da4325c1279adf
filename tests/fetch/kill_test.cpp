// kill -9 of a whole fetch at points of its way; a new fetch goes on from what was there.

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "tests/fetch/child_process.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

std::string magnet_of(const format::ReleaseLayout& layout) {
  if (layout.infohash_v1) return "magnet:?xt=urn:btih:" + base::to_hex(*layout.infohash_v1);
  return "magnet:?xt=urn:btmh:1220" + base::to_hex(*layout.infohash_v2);
}

/// When the newest resume data in the folder was written.
std::filesystem::file_time_type last_save(const std::filesystem::path& output) {
  auto newest = std::filesystem::file_time_type::min();
  for (const auto& entry : std::filesystem::directory_iterator(output / ".sluice"))
    if (entry.path().extension() == ".resume") newest = std::max(newest, entry.last_write_time());
  return newest;
}

/// Starts a fetch at a limited rate and kills it when so many bytes are done and resume data has been saved
/// since.
void fetch_and_kill(const std::string& source, const std::filesystem::path& output, const std::string& peer,
                    std::uint64_t done_bytes) {
  ChildProcess child({SLUICE_FETCH_WORKER, source, output.string(), peer, "6000000"});
  std::optional<std::filesystem::file_time_type> reached;
  while (const auto line = child.read_line()) {
    if (!reached && std::stoull(*line) >= done_bytes) reached = last_save(output);
    if (reached && last_save(output) > *reached) break;
  }
  child.kill_now();
  CHECK(child.wait() == 128 + SIGKILL);
}

}  // namespace

TEST_CASE("a fetch that is killed again and again ends with the right bytes and does not start over") {
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2}) {
    CAPTURE(static_cast<int>(version));
    const TempDir dir;
    const Files files = large_files();
    write_files(dir / "model", files);
    write_text(dir / "model.torrent", make_lt_torrent(dir / "model", version));
    const auto layout = fetch::read_torrent(dir / "model.torrent");
    const SeedThread seeder(dir / "model.torrent", dir.path());
    fetch_and_kill(magnet_of(layout), dir / "out", seeder.peer(), 2'000'000);
    fetch_and_kill(magnet_of(layout), dir / "out", seeder.peer(), 6'000'000);
    RecordingObserver observer;
    const auto result =
        fetch::fetch(make_request(magnet_of(layout), dir / "out", {seeder.peer()}), observer, {});
    CHECK((read_files(result.path) == files));
    CHECK(result.downloaded_bytes < layout.payload_bytes() - 2'000'000);
    CHECK(result.rehashed_bytes == 0);
  }
}

TEST_CASE("a fetch that is killed leaves no worker behind") {
  const TempDir dir;
  write_files(dir / "model", large_files());
  const auto published = publish_folder(dir / "model");
  const SeedThread seeder(published.torrent, dir.path());
  fetch_and_kill(published.torrent, dir / "out", seeder.peer(), 100'000);
  // The worker holds the lock as long as it lives; the next fetch gets it at once.
  RecordingObserver observer;
  const auto result =
      fetch::fetch(make_request(published.torrent, dir / "out", {seeder.peer()}), observer, {});
  CHECK((read_files(result.path) == large_files()));
}
