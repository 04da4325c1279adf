// fetch::repair on loopback: wrong bytes are replaced, and correct bytes are never written.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/fetch/tiny_http.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;

namespace {

constexpr std::uint64_t kPieceBytes = 262'144;
constexpr std::uint64_t kBlockBytes = 16'384;

/// A release and a copy of it that a test damages, in a folder where a fetch would have put it.
struct Damaged {
  TempDir dir;
  Files files;
  std::filesystem::path torrent;
  fetch::RepairRequest request;

  explicit Damaged(Files content, LtVersion version = LtVersion::hybrid) : files(std::move(content)) {
    write_files(dir / "model", files);
    torrent = dir / "model.torrent";
    if (version == LtVersion::v2)
      write_text(torrent, make_lt_torrent(dir / "model", version));
    else
      publish_folder(dir / "model", version == LtVersion::v1, kPieceBytes);
    write_files(copy(), files);
    request.folder = copy();
  }

  [[nodiscard]] std::filesystem::path copy() const { return dir / "downloads/model"; }

  void damage(const std::string& path, std::uint64_t offset_bytes, std::uint64_t length_bytes = 1) {
    std::string content = read_text(copy() / path);
    for (std::uint64_t i = 0; i < length_bytes; ++i) content[offset_bytes + i] ^= 1;
    write_text(copy() / path, content);
  }

  void tell(const std::string& path, std::vector<base::ByteRange> ranges) {
    request.damage.push_back({path, std::move(ranges)});
  }

  fetch::RepairResult repair(std::vector<std::string> peers, RecordingObserver& observer,
                             const std::stop_token& stop = {}) {
    request.fetch = make_request(torrent.string(), dir / "downloads", std::move(peers));
    return fetch::repair(request, observer, stop);
  }

  [[nodiscard]] bool left_nothing() const {
    for (const auto& entry : std::filesystem::directory_iterator(dir / "downloads/.sluice"))
      if (entry.path().extension() == ".repair") return false;
    return true;
  }
};

}  // namespace

TEST_CASE("blocks that are wrong are fetched and written, and nothing else is") {
  for (const LtVersion version : {LtVersion::v1, LtVersion::hybrid}) {
    CAPTURE(static_cast<int>(version));
    Damaged release(
        {{"large.bin", noise(1, 3'000'000)}, {"params.json", "{}"}, {"tokenizer", noise(2, 50'000)}},
        version);
    release.damage("large.bin", 1'000'000);
    release.damage("large.bin", 2'999'990, 10);
    const auto untouched = std::filesystem::last_write_time(release.copy() / "tokenizer");
    release.tell("large.bin", {{1'000'000 / kBlockBytes * kBlockBytes, kBlockBytes}, {2'999'990, 10}});
    const SeedThread seeder(release.torrent, release.dir.path());
    RecordingObserver observer;
    const auto result = release.repair({seeder.peer()}, observer);
    CHECK((read_files(release.copy()) == release.files));
    CHECK(result.written_bytes == 11);
    CHECK(result.downloaded_bytes <= 3 * kBlockBytes);
    CHECK_FALSE(observer.went_backwards);
    CHECK(std::filesystem::last_write_time(release.copy() / "tokenizer") == untouched);
    CHECK(release.left_nothing());
  }
}

TEST_CASE("files that are missing, cut or too long become the release's again") {
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2, LtVersion::hybrid}) {
    CAPTURE(static_cast<int>(version));
    Damaged release(sample_files(), version);
    for (const auto& [path, content] : release.files) {
      CAPTURE(path);
      const SeedThread seeder(release.torrent, release.dir.path());
      for (const std::size_t kept : {std::size_t{0}, content.size() / 2, content.size() + 9}) {
        release.request.damage.clear();
        if (kept == 0) {
          std::filesystem::remove(release.copy() / path);
        } else {
          write_text(release.copy() / path, (content + "overlong!").substr(0, kept));
        }
        const auto first = std::min(kept, content.size());
        release.tell(path, {{first, std::max(kept, content.size()) - first}});
        RecordingObserver observer;
        static_cast<void>(release.repair({seeder.peer()}, observer));
        CHECK((read_files(release.copy()) == release.files));
      }
    }
  }
}

TEST_CASE("a web server can be what mends a release") {
  Damaged release({{"large.bin", noise(1, 900'000)}});
  release.damage("large.bin", 500'000);
  release.tell("large.bin", {{262'144, 262'144}});
  const TinyHttp server(release.files);
  release.request.fetch = make_request(release.torrent.string(), release.dir / "downloads", {});
  release.request.fetch.mirrors = {server.url()};
  RecordingObserver observer;
  CHECK(fetch::repair(release.request, observer, {}).written_bytes == 1);
  CHECK((read_files(release.copy()) == release.files));
}

TEST_CASE("who sends wrong bytes harms nothing") {
  Damaged release({{"large.bin", noise(1, 3'000'000)}});
  write_files(release.dir / "liar/model", {{"large.bin", noise(7, 3'000'000)}});
  release.damage("large.bin", 1'000'000);
  const Files damaged = read_files(release.copy());
  release.tell("large.bin", {{kPieceBytes * 3, kPieceBytes}});
  const LtSeeder liar(release.torrent, release.dir / "liar", LtSeeder::Check::nothing);
  RecordingObserver observer;
  release.request.fetch.timeout_s = 2;
  auto request = make_request(release.torrent.string(), release.dir / "downloads", {liar.peer()});
  request.timeout_s = 2;
  release.request.fetch = request;
  CHECK_ERROR(fetch::repair(release.request, observer, {}), ErrorKind::no_peers, "no peer delivered payload");
  CHECK((read_files(release.copy()) == damaged));
}

TEST_CASE("a repair that is stopped goes on from there") {
  Damaged release(large_files(), LtVersion::v1);
  for (const auto& [path, content] : release.files) {
    std::filesystem::remove(release.copy() / path);
    release.tell(path, {{0, content.size()}});
  }
  const SeedThread seeder(release.torrent, release.dir.path());
  RecordingObserver observer;
  std::stop_source stop;
  observer.hook = [&](const fetch::FetchStatus& status) {
    if (status.done_bytes > 6'000'000) stop.request_stop();
  };
  release.request.fetch = make_request(release.torrent.string(), release.dir / "downloads", {seeder.peer()});
  release.request.fetch.limit_down_bytes_per_s = kSlowBytesPerS;
  CHECK_ERROR(fetch::repair(release.request, observer, stop.get_token()), ErrorKind::interrupted, "goes on");
  CHECK(read_files(release.copy()).empty());
  RecordingObserver again;
  const auto result = release.repair({seeder.peer()}, again);
  CHECK((read_files(release.copy()) == release.files));
  CHECK(result.downloaded_bytes < 30'000'000 - 5'000'000);
}

TEST_CASE("the fetch that brought a release still knows it after a repair") {
  Damaged release({{"large.bin", noise(1, 3'000'000)}, {"params.json", "{}"}});
  std::filesystem::remove_all(release.copy());
  const SeedThread seeder(release.torrent, release.dir.path());
  const auto request = make_request(release.torrent.string(), release.dir / "downloads", {seeder.peer()});
  RecordingObserver observer;
  static_cast<void>(fetch::fetch(request, observer, {}));
  release.damage("large.bin", 1'000'000);
  release.tell("large.bin", {{1'000'000 / kBlockBytes * kBlockBytes, kBlockBytes}});
  static_cast<void>(release.repair({seeder.peer()}, observer));
  const auto result = fetch::fetch(request, observer, {});
  CHECK(result.downloaded_bytes == 0);
  CHECK(result.rehashed_bytes <= 16 * kPieceBytes);
  CHECK(observer.warnings.empty());
}

TEST_CASE("a repair refuses what is not the torrent's, and does not write through links") {
  Damaged release({{"large.bin", noise(1, 900'000)}});
  RecordingObserver observer;
  release.tell("other.bin", {{0, 1}});
  CHECK_ERROR(release.repair({}, observer), ErrorKind::usage,
              "other.bin: is not a file of the torrent 'model'");
  release.request.damage.clear();
  release.tell("large.bin", {{0, 1}});
  std::filesystem::rename(release.copy() / "large.bin", release.dir / "elsewhere");
  std::filesystem::create_symlink(release.dir / "elsewhere", release.copy() / "large.bin");
  CHECK_ERROR(release.repair({}, observer), ErrorKind::io, "symbolic link");
  CHECK(read_text(release.dir / "elsewhere") == release.files.at("large.bin"));
}

TEST_CASE("a file of which nothing is right is kept aside") {
  Damaged release(sample_files());
  write_text(release.copy() / "params.json", "my own notes");
  release.tell("params.json", {{0, 100'000}});
  const SeedThread seeder(release.torrent, release.dir.path());
  RecordingObserver observer;
  static_cast<void>(release.repair({seeder.peer()}, observer));
  CHECK((read_files(release.copy()) == release.files));
  REQUIRE(observer.warnings.size() == 1);
  const std::string& warning = observer.warnings[0];
  const std::size_t kept = warning.find("is kept in ");
  REQUIRE(kept != std::string::npos);
  CHECK(read_text(warning.substr(kept + 11)) == "my own notes");
}
