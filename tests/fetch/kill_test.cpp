// Kills a whole fetch with SIGKILL at certain points; a new fetch continues from the durable pieces.

#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "tests/fetch/child_process.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::string magnet_of(const format::ReleaseLayout& layout) {
  if (layout.infohash_v1) return "magnet:?xt=urn:btih:" + base::to_hex(*layout.infohash_v1);
  return "magnet:?xt=urn:btmh:1220" + base::to_hex(*layout.infohash_v2);
}

/// Starts a fetch at a limited rate and kills it when so many bytes are done.
void fetch_and_kill(const std::string& source, const std::filesystem::path& output, const std::string& peer,
                    std::uint64_t done_bytes) {
  ChildProcess child({SLUICE_FETCH_WORKER, source, output.string(), peer, "6000000"});
  while (const auto line = child.read_line())
    if (!line->starts_with("warning") && std::stoull(*line) >= done_bytes) break;
  child.kill_now();
  CHECK(child.wait() == 128 + SIGKILL);
}

/// Runs a fetch and kills it after a while; true when it had ended before.
bool fetch_for(std::chrono::milliseconds time, const std::string& source, const std::filesystem::path& output,
               const std::string& peer) {
  ChildProcess child({SLUICE_FETCH_WORKER, source, output.string(), peer, "0"});
  std::this_thread::sleep_for(time);
  child.kill_now();
  while (const auto line = child.read_line()) {
    // Nothing that the journal proves may turn out to be wrong.
    const bool doubted =
        line->find("checked again") != line->npos || line->find("have changed") != line->npos;
    CHECK_MESSAGE(!doubted, *line);
  }
  return child.wait() == 0;
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
    fetch_and_kill(magnet_of(layout), dir / "out", seeder.peer(), 4'000'000);
    fetch_and_kill(magnet_of(layout), dir / "out", seeder.peer(), 9'000'000);
    RecordingObserver observer;
    const auto result =
        fetch::fetch(make_request(magnet_of(layout), dir / "out", {seeder.peer()}), observer, {});
    CHECK((read_files(result.path) == files));
    CHECK(result.downloaded_bytes < layout.payload_bytes() - 4'000'000);
    CHECK(result.rehashed_bytes <= kSampledBytesMax);
  }
}

TEST_CASE("what came before the piece layers of a v2 magnet link did is kept") {
  const TempDir dir;
  const Files files = large_files();
  write_files(dir / "model", files);
  write_text(dir / "model.torrent", make_lt_torrent(dir / "model", LtVersion::v2));
  const auto layout = fetch::read_torrent(dir / "model.torrent");
  const SeedThread seeder(dir / "model.torrent", dir.path());
  fetch_and_kill(magnet_of(layout), dir / "out", seeder.peer(), 6'000'000);
  for (const auto& entry : std::filesystem::directory_iterator(dir / "out/.sluice"))
    if (entry.path().extension() == ".layers") std::filesystem::remove(entry.path());
  RecordingObserver observer;
  const auto result =
      fetch::fetch(make_request(magnet_of(layout), dir / "out", {seeder.peer()}), observer, {});
  CHECK((read_files(result.path) == files));
  CHECK(result.downloaded_bytes < layout.payload_bytes() - 4'000'000);
}

TEST_CASE("at 200 random instants, a kill costs less than 64 MiB on average") {
  constexpr int kKills = 200;
  constexpr std::uint64_t kSampleBytes = 8 * kMiB;  // hashed again at every start
  const TempDir dir;
  const Files files = {{"params.json", noise(1, 700)}, {"consolidated.00.pth", noise(2, 160 * kMiB)}};
  write_files(dir / "model", files);
  const auto published = publish_folder(dir / "model", false, 4 * kMiB);
  const SeedThread seeder(published.torrent, dir.path());
  std::mt19937 random(20240101);
  std::uniform_int_distribution<int> instant_ms(20, 700);
  std::uint64_t completed = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    const std::chrono::milliseconds time(instant_ms(random));
    if (!fetch_for(time, published.torrent, dir / "out", seeder.peer())) continue;
    ++completed;
    CHECK((read_files(dir / "out/model") == files));
    std::filesystem::remove_all(dir / "out");
  }
  RecordingObserver observer;
  const auto result =
      fetch::fetch(make_request(published.torrent, dir / "out", {seeder.peer()}), observer, {});
  CHECK((read_files(result.path) == files));
  ++completed;
  std::this_thread::sleep_for(std::chrono::seconds(2));  // for the seeder's last count
  const std::uint64_t needed_bytes = completed * published.layout.payload_bytes();
  const std::uint64_t again_bytes = seeder.uploaded_bytes() - needed_bytes + kKills * kSampleBytes;
  MESSAGE(kKills << " kills over " << completed << " downloads: " << again_bytes / kKills / 1024
                 << " KiB fetched or hashed again a kill");
  CHECK(seeder.uploaded_bytes() >= needed_bytes);
  CHECK(again_bytes / kKills < 64 * kMiB);
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
