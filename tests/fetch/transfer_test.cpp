// fetch() against seeders on loopback, with real worker processes.

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/file.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
namespace fs = std::filesystem;

namespace {

fetch::FetchResult fetch_quietly(const fetch::FetchRequest& request) {
  RecordingObserver observer;
  auto result = fetch::fetch(request, observer, {});
  CHECK_FALSE(observer.went_backwards);
  return result;
}

std::string magnet_of(const format::ReleaseLayout& layout) {
  if (layout.infohash_v1) return "magnet:?xt=urn:btih:" + base::to_hex(*layout.infohash_v1);
  return "magnet:?xt=urn:btmh:1220" + base::to_hex(*layout.infohash_v2);
}

struct Published {
  TempDir dir;
  fetch::PublishResult result;

  explicit Published(bool v1_only = false, const Files& files = sample_files()) {
    write_files(dir / "model", files);
    result = publish_folder(dir / "model", v1_only);
  }
  [[nodiscard]] fs::path out() const { return dir / "out"; }
};

}  // namespace

TEST_CASE("a hybrid release is fetched by its magnet link and can be shared from there") {
  const Published release;
  {
    const SeedThread seeder(release.result.torrent, release.dir.path());
    const auto result = fetch_quietly(make_request(release.result.magnet, release.out(), {seeder.peer()}));
    CHECK(result.path == release.out() / "model");
    CHECK((read_files(result.path) == sample_files()));
    CHECK(result.downloaded_bytes >= result.layout.payload_bytes());
    CHECK(result.rehashed_bytes == 0);
    // The piece layers, which a magnet link does not bring, have been kept.
    const auto saved = fetch::read_torrent(result.torrent);
    REQUIRE(saved.files.size() == release.result.layout.files.size());
    for (std::size_t i = 0; i < saved.files.size(); ++i)
      CHECK((saved.files[i].piece_layer == release.result.layout.files[i].piece_layer));
  }
  const SeedThread second(
      release.out() / ".sluice" / (base::to_hex(*release.result.layout.infohash_v1) + ".torrent"),
      release.out());
  const auto again =
      fetch_quietly(make_request(release.result.magnet, release.dir / "out2", {second.peer()}));
  CHECK((read_files(again.path) == sample_files()));
}

TEST_CASE("a v1 release is fetched by its magnet link") {
  const Published release(true);
  const SeedThread seeder(release.result.torrent, release.dir.path());
  const auto result = fetch_quietly(make_request(release.result.magnet, release.out(), {seeder.peer()}));
  CHECK((read_files(result.path) == sample_files()));
  CHECK_FALSE(result.layout.infohash_v2.has_value());
}

TEST_CASE("a v2-only release is fetched by its magnet link") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  write_text(dir / "v2.torrent", make_lt_torrent(dir / "model", LtVersion::v2));
  const auto layout = fetch::read_torrent(dir / "v2.torrent");
  CHECK_FALSE(layout.infohash_v1.has_value());
  const SeedThread seeder(dir / "v2.torrent", dir.path());
  const auto result = fetch_quietly(make_request(magnet_of(layout), dir / "out", {seeder.peer()}));
  CHECK((read_files(result.path) == sample_files()));
  const auto saved = fetch::read_torrent(result.torrent);
  for (std::size_t i = 0; i < saved.files.size(); ++i)
    CHECK((saved.files[i].piece_layer == layout.files[i].piece_layer));
}

TEST_CASE("a hybrid release is fetched by its v2 info-hash alone") {
  const Published release;
  const SeedThread seeder(release.result.torrent, release.dir.path());
  const std::string magnet = "magnet:?xt=urn:btmh:1220" + base::to_hex(*release.result.layout.infohash_v2);
  const auto result = fetch_quietly(make_request(magnet, release.out(), {seeder.peer()}));
  CHECK((read_files(result.path) == sample_files()));
}

TEST_CASE("a release of one file is fetched from a .torrent") {
  for (const bool v1_only : {false, true}) {
    const TempDir dir;
    write_text(dir / "weights.bin", noise(7, 100'000));
    const auto published = publish_folder(dir / "weights.bin", v1_only);
    const SeedThread seeder(published.torrent, dir.path());
    const auto result = fetch_quietly(make_request(published.torrent, dir / "out", {seeder.peer()}));
    CHECK(result.path == dir / "out/weights.bin");
    CHECK((read_text(dir / "out/weights.bin") == noise(7, 100'000)));
  }
}

TEST_CASE("what is complete is not fetched again") {
  const Published release;
  {
    const SeedThread seeder(release.result.torrent, release.dir.path());
    static_cast<void>(fetch_quietly(make_request(release.result.magnet, release.out(), {seeder.peer()})));
  }
  const auto result = fetch_quietly(make_request(release.result.magnet, release.out(), {}));
  CHECK(result.downloaded_bytes == 0);
  CHECK(result.rehashed_bytes <= kSampledBytesMax);
}

TEST_CASE("files that are there without resume data are checked and kept") {
  const Published release;
  fs::create_directories(release.out());
  fs::copy(release.dir / "model", release.out() / "model", fs::copy_options::recursive);
  std::string damaged = sample_files().at("consolidated.00.pth");
  damaged[300'000] = static_cast<char>(damaged[300'000] ^ 1);
  write_text(release.out() / "model/consolidated.00.pth", damaged);
  const SeedThread seeder(release.result.torrent, release.dir.path());
  const auto result = fetch_quietly(make_request(release.result.torrent, release.out(), {seeder.peer()}));
  CHECK((read_files(result.path) == sample_files()));
  CHECK(result.rehashed_bytes == result.layout.payload_bytes());
  CHECK(result.downloaded_bytes > 0);
  CHECK(result.downloaded_bytes <= 65536);
}

TEST_CASE("a release of another torrent in the same folder is left alone") {
  const Published one(true, {{"weights.bin", noise(1, 100'000)}, {"params.json", "{}"}});
  const Published two(true, {{"weights.bin", noise(2, 80'000)}});
  const fs::path out = one.out();
  {
    const SeedThread seeder(one.result.torrent, one.dir.path());
    static_cast<void>(fetch_quietly(make_request(one.result.torrent, out, {seeder.peer()})));
  }
  const std::string key = base::to_hex(two.result.layout.infohash_v1.value());
  const SeedThread seeder(two.result.torrent, two.dir.path());
  auto request = make_request(two.result.torrent, out, {seeder.peer()});
  CHECK_ERROR(fetch_quietly(request), ErrorKind::usage,
              "belongs to the release 'model' of torrent " +
                  base::to_hex(one.result.layout.infohash_v1.value()) + ", and is not the file of torrent " +
                  key);
  CHECK((read_text(out / "model/weights.bin") == noise(1, 100'000)));
  CHECK_FALSE(fs::exists(out / ".sluice" / (key + ".torrent")));  // verify would take it for this release's

  request.overwrite = true;
  CHECK((read_text(fetch_quietly(request).path / "weights.bin") == noise(2, 80'000)));
  CHECK_ERROR(fetch_quietly(make_request(one.result.torrent, out, {})), ErrorKind::usage, key);
}

TEST_CASE("another torrent of the same content takes over what lies there") {
  const Published first(true);
  const SeedThread seeder(first.result.torrent, first.dir.path());
  static_cast<void>(fetch_quietly(make_request(first.result.torrent, first.out(), {seeder.peer()})));
  const auto hybrid = publish_folder(first.dir / "model");
  const auto result = fetch_quietly(make_request(hybrid.torrent, first.out(), {}));
  CHECK(result.downloaded_bytes == 0);
  CHECK(result.adopted_bytes == result.wanted_bytes);
}

TEST_CASE("files that have nothing to do with the release are left alone") {
  const Published release(true, {{"a.bin", noise(1, 100'000)}, {"b.bin", noise(2, 98'304)}});
  const fs::path file = release.out() / "model/a.bin";
  const SeedThread seeder(release.result.torrent, release.dir.path());
  auto request = make_request(release.result.torrent, release.out(), {seeder.peer()});
  std::string before;
  std::string cause = "a.bin: is there and nothing of it is the file of torrent";
  bool linked = false;
  SUBCASE("another file") { before = noise(3, 90'000); }
  SUBCASE("a longer file") {
    before = noise(1, 100'000) + "more";
    cause = "a.bin: is longer than the release's file (100004 bytes, not 100000)";
  }
  SUBCASE("a damaged file with another name") {
    before = noise(1, 100'000);
    before[50'000] ^= 1;
    linked = true;
    cause = "a.bin: has other names (hard links)";
  }
  write_text(file, before);
  if (linked) fs::create_hard_link(file, release.dir / "other");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::usage, cause);
  CHECK((read_text(file) == before));
  CHECK_FALSE(fs::exists(release.out() / "model/b.bin"));
  // Where it is not wanted it may stay, and the piece that it shares with a wanted file is kept elsewhere.
  request.select = {"b.bin"};
  CHECK((read_text(fetch_quietly(request).path / "b.bin") == noise(2, 98'304)));
  CHECK((read_text(file) == before));
  request.select = {};
  CHECK_ERROR(fetch_quietly(request), ErrorKind::usage, cause);
  request.overwrite = true;
  CHECK((read_text(fetch_quietly(request).path / "a.bin") == noise(1, 100'000)));
  if (linked) CHECK((read_text(release.dir / "other") == before));
}

TEST_CASE("a file of a finished fetch that somebody has replaced since is left alone") {
  const Published release;
  const SeedThread seeder(release.result.torrent, release.dir.path());
  auto request = make_request(release.result.torrent, release.out(), {seeder.peer()});
  const auto result = fetch_quietly(request);
  write_text(result.path / "params.json", "{\"my\": 1}");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::usage, "params.json: is");
  CHECK(read_text(result.path / "params.json") == "{\"my\": 1}");
}

TEST_CASE("partial downloads of other clients are completed") {
  const Published release(true, {{"a.bin", noise(1, 100'000)}, {"b.bin", noise(2, 90'000)}});
  std::string partial(100'000, '\0');  // with space reserved, and one piece
  partial.replace(16'384, 16'384, noise(1, 100'000).substr(16'384, 16'384));
  write_text(release.out() / "model/a.bin", partial);
  write_text(release.out() / "model/b.bin", std::string(90'000, '\0'));
  const SeedThread seeder(release.result.torrent, release.dir.path());
  const auto result = fetch_quietly(make_request(release.result.torrent, release.out(), {seeder.peer()}));
  CHECK(result.adopted_bytes == 16'384);
  CHECK((read_text(result.path / "a.bin") == noise(1, 100'000)));
  CHECK((read_text(result.path / "b.bin") == noise(2, 90'000)));
}

TEST_CASE("a fetch says how much it has taken from an earlier run's record, and can hash all") {
  const Published release(true, {{"a.bin", noise(1, 1'000'000)}});
  const SeedThread seeder(release.result.torrent, release.dir.path());
  auto request = make_request(release.result.torrent, release.out(), {seeder.peer()});
  CHECK(fetch_quietly(request).believed_bytes == 0);
  const fs::path file = release.out() / "model/a.bin";
  const auto time = fs::last_write_time(file);
  std::string damaged = noise(1, 1'000'000);
  damaged[500'000] ^= 1;
  write_text(file, damaged);
  fs::last_write_time(file, time);
  auto again = fetch_quietly(request);
  CHECK(again.wanted_pieces == 62);
  // The sample of 16 pieces may have met the damage, and then all are hashed.
  if (again.believed_pieces > 0) CHECK(again.believed_pieces == 62 - 16);
  request.recheck = true;
  again = fetch_quietly(request);
  CHECK(again.believed_bytes == 0);
  CHECK((read_text(file) == noise(1, 1'000'000)));

  request.recheck = false;
  fs::permissions(release.out() / ".sluice" / (base::to_hex(*again.layout.infohash_v1) + ".journal"),
                  fs::perms::group_write, fs::perm_options::add);
  RecordingObserver observer;
  CHECK(fetch::fetch(request, observer, {}).adopted_bytes == 1'000'000);
  REQUIRE(observer.warnings.size() == 1);
  CHECK(observer.warnings[0].find("other users can write to it") != std::string::npos);
}

TEST_CASE("a fetch that is stopped says so and goes on from there") {
  for (const LtVersion version : {LtVersion::v2, LtVersion::hybrid}) {
    CAPTURE(static_cast<int>(version));
    const TempDir dir;
    const Files files = large_files();
    write_files(dir / "model", files);
    write_text(dir / "model.torrent", make_lt_torrent(dir / "model", version));
    const auto layout = fetch::read_torrent(dir / "model.torrent");
    const SeedThread seeder(dir / "model.torrent", dir.path());
    auto request = make_request(magnet_of(layout), dir / "out", {seeder.peer()});
    request.limit_down_bytes_per_s = kSlowBytesPerS;
    RecordingObserver observer;
    std::stop_source stop;
    observer.hook = [&](const fetch::FetchStatus& status) {
      if (status.done_bytes > 5'000'000) stop.request_stop();
    };
    CHECK_ERROR(fetch::fetch(request, observer, stop.get_token()), ErrorKind::interrupted, "goes on");
    CHECK_FALSE(observer.went_backwards);
    request.limit_down_bytes_per_s = 0;
    const auto result = fetch_quietly(request);
    CHECK((read_files(result.path) == files));
    CHECK(result.rehashed_bytes <= kSampledBytesMax);
    CHECK(result.downloaded_bytes < layout.payload_bytes() - 4'000'000);
  }
}

TEST_CASE("what has arrived of large pieces outlives a stop") {
  constexpr std::uint64_t kPieceBytes = 16u << 20;
  for (const bool v1_only : {false, true}) {
    CAPTURE(v1_only);
    const TempDir dir;
    const Files files = large_files();
    write_files(dir / "model", files);
    const auto published = publish_folder(dir / "model", v1_only, kPieceBytes);
    const SeedThread seeder(published.torrent, dir.path());
    auto request = make_request(published.torrent, dir / "out", {seeder.peer()});
    request.limit_down_bytes_per_s = kSlowBytesPerS;
    RecordingObserver observer;
    std::stop_source stop;
    observer.hook = [&](const fetch::FetchStatus& status) {
      if (status.done_bytes > 8'000'000) stop.request_stop();
    };
    CHECK_ERROR(fetch::fetch(request, observer, stop.get_token()), ErrorKind::interrupted, "goes on");
    request.limit_down_bytes_per_s = 0;
    const auto result = fetch_quietly(request);
    CHECK((read_files(result.path) == files));
    CHECK(result.downloaded_bytes < published.layout.payload_bytes() - 7'000'000);
    CHECK(result.rehashed_bytes <= kPieceBytes);
  }
}

TEST_CASE("only the chosen files are fetched, and the others can follow") {
  for (const bool v1_only : {false, true}) {  // in v1, files share pieces
    CAPTURE(v1_only);
    const Published release(v1_only);
    const SeedThread seeder(release.result.torrent, release.dir.path());
    auto request = make_request(release.result.magnet, release.out(), {seeder.peer()});
    request.select = {"*.json", "tokenizer*"};
    request.exclude = {"*.txt"};
    const auto some = fetch_quietly(request);
    CHECK((read_text(some.path / "params.json") == sample_files().at("params.json")));
    CHECK((read_text(some.path / "tokenizer/tokenizer.model") ==
           sample_files().at("tokenizer/tokenizer.model")));
    CHECK_FALSE(fs::exists(some.path / "consolidated.00.pth"));
    CHECK_FALSE(fs::exists(some.path / "tokenizer.txt"));
    const auto again = fetch_quietly(request);
    CHECK(again.downloaded_bytes == 0);
    CHECK(again.rehashed_bytes <= kSampledBytesMax);
    request.select = {};
    request.exclude = {};
    const auto all = fetch_quietly(request);
    CHECK((read_files(all.path) == sample_files()));
    CHECK(all.downloaded_bytes < all.layout.payload_bytes());
    request.select = {"nothing-has-this-name"};
    CHECK_ERROR(fetch_quietly(request), ErrorKind::usage, "leave no file");
  }
}

TEST_CASE("a dry run gets the file list and nothing else") {
  const Published release;
  const SeedThread seeder(release.result.torrent, release.dir.path());
  auto request = make_request(release.result.magnet, release.out(), {seeder.peer()});
  request.dry_run = true;
  RecordingObserver observer;
  static_cast<void>(fetch::fetch(request, observer, {}));
  REQUIRE(observer.layouts.size() == 1);
  CHECK(observer.layouts[0].payload_bytes() == release.result.layout.payload_bytes());
  CHECK_FALSE(fs::exists(release.out() / "model"));
}

TEST_CASE("a seeder that sends wrong bytes is not believed") {
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2}) {
    const TempDir dir;
    write_files(dir / "model", sample_files());
    write_text(dir / "lie.torrent", make_lt_torrent(dir / "model", version));
    std::string damaged = sample_files().at("consolidated.00.pth");
    damaged[100'000] = static_cast<char>(damaged[100'000] ^ 1);
    write_text(dir / "model/consolidated.00.pth", damaged);
    const LtSeeder liar(dir / "lie.torrent", dir.path(), LtSeeder::Check::nothing);
    auto request = make_request(dir / "lie.torrent", dir / "out", {liar.peer()});
    request.timeout_s = 2;
    CHECK_ERROR(fetch_quietly(request), ErrorKind::no_peers, "no peer delivered payload for 2 s");
    // An honest peer mends it.
    write_files(dir / "model", sample_files());
    const SeedThread honest(dir / "lie.torrent", dir.path());
    request.peers = {honest.peer()};
    request.timeout_s = 20;
    CHECK((read_files(fetch_quietly(request).path) == sample_files()));
  }
}

TEST_CASE("a peer at the address of one that lied about the metadata is asked") {
  const Published release;
  const HostileSeeder liar("not the metadata");
  const int port = SeedThread(release.result.torrent, release.dir.path()).port();
  auto request =
      make_request(release.result.magnet, release.out(), {liar.peer(), "127.0.0.1:" + std::to_string(port)});
  request.timeout_s = 30;
  struct Observer final : RecordingObserver {
    void on_warning(std::string_view message) override {
      // Only now, so that the liar has been found out before.
      if (!honest && message.find("sent metadata that does not fit") != std::string_view::npos) start();
    }
    std::function<void()> start;
    std::optional<SeedThread> honest;
  } observer;
  observer.start = [&] { observer.honest.emplace(release.result.torrent, release.dir.path(), 0, port); };
  CHECK((read_files(fetch::fetch(request, observer, {}).path) == sample_files()));
  CHECK(observer.honest.has_value());
}

TEST_CASE("a fetch without peers ends after the timeout and says what was tried") {
  const TempDir dir;
  auto request = make_request("magnet:?xt=urn:btih:5546272da9065eddeb6fcd7ffddeef5b75be79a7", dir / "out",
                              {"127.0.0.1:1"});
  request.timeout_s = 1;
  CHECK_ERROR(fetch_quietly(request), ErrorKind::no_peers,
              "no peer delivered metadata for 1 s (tried: 1 given peer,");
}

TEST_CASE("a worker that crashes is started again") {
  const Published release;
  const SeedThread seeder(release.result.torrent, release.dir.path());
  auto request = make_request(release.result.torrent, release.out(), {seeder.peer()});
  const std::string mark = release.dir / "crashed";
  request.worker_command = {
      "/bin/sh", "-c",
      "if [ -e " + mark + " ]; then exec " SLUICE_FETCH_WORKER "; fi; touch " + mark + "; kill -9 $$"};
  RecordingObserver observer;
  const auto result = fetch::fetch(request, observer, {});
  CHECK((read_files(result.path) == sample_files()));
  REQUIRE(observer.warnings.size() == 1);
  CHECK(observer.warnings[0] == "the transfer process crashed (killed by signal 9) and is started again");

  request.worker_command = {"/bin/false"};
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "crashed 6 times in a row, the last time: exit code 1");
  request.worker_command = {release.dir / "no-such-program"};
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "cannot start");
}

TEST_CASE("two fetches of one torrent into one folder do not mix") {
  const Published release;
  const SeedThread seeder(release.result.torrent, release.dir.path());
  auto request = make_request(release.result.torrent, release.out(), {seeder.peer()});
  request.limit_down_bytes_per_s = 300'000;
  RecordingObserver observer;
  std::stop_source stop;
  bool tried = false;
  observer.hook = [&](const fetch::FetchStatus&) {
    if (std::exchange(tried, true)) return;
    CHECK_ERROR(fetch_quietly(request), ErrorKind::usage, "another process is fetching the same torrent");
    stop.request_stop();
  };
  CHECK_ERROR(fetch::fetch(request, observer, stop.get_token()), ErrorKind::interrupted, "");
  CHECK(tried);
}

TEST_CASE("fetch does not write through links or over files that are in the way") {
  const Published release;
  const auto request = make_request(release.result.torrent, release.out(), {});
  fs::create_directories(release.out());
  fs::create_directories(release.dir / "elsewhere");
  fs::create_directory_symlink(release.dir / "elsewhere", release.out() / "model");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "out/model: is a symbolic link");
  fs::remove(release.out() / "model");
  write_text(release.out() / "model", "a file");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "out/model: exists and is not a folder");
  fs::remove(release.out() / "model");
  fs::create_directories(release.out() / "model");
  fs::create_directory_symlink(release.dir / "elsewhere", release.out() / "model/tokenizer");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "model/tokenizer: is a symbolic link");
  fs::remove(release.out() / "model/tokenizer");
  fs::create_symlink(release.dir / "elsewhere/x", release.out() / "model/params.json");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "model/params.json: is a symbolic link");
  fs::remove(release.out() / "model/params.json");
  fs::create_directories(release.out() / "model/params.json");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "model/params.json: exists and is not a regular file");
  CHECK(fs::is_empty(release.dir / "elsewhere"));
}

TEST_CASE("metadata with unsafe names is refused before anything is created") {
  for (const std::string name : {"../escape", "a\nb"}) {
    const TempDir dir;
    const HostileSeeder seeder(make_hostile_info(name));
    const auto request = make_request(seeder.magnet(), dir / "out", {seeder.peer()});
    CHECK_ERROR(fetch_quietly(request), ErrorKind::malformed, "unsafe file name");
    for (const auto& entry : fs::directory_iterator(dir.path())) CHECK(entry.path() == dir / "out");
    for (const auto& entry : fs::directory_iterator(dir / "out")) CHECK(entry.path() == dir / "out/.sluice");
  }
}

TEST_CASE("bad trackers and private addresses of a magnet are left out with a warning") {
  const Published release;
  const SeedThread seeder(release.result.torrent, release.dir.path());
  const auto request = make_request(magnet_of(release.result.layout) +
                                        "&tr=udp%3A%2F%http://2Fopentracker.i2p.rocks%3A6969%2Fannounce"
                                        "&tr=http://127.0.0.1:9/announce&tr=http://169.254.169.254/announce"
                                        "&x.pe=10.0.0.1:80&ws=http://localhost/x",
                                    release.out(), {seeder.peer()});
  RecordingObserver observer;
  const auto result = fetch::fetch(request, observer, {});
  CHECK((read_files(result.path) == sample_files()));
  REQUIRE(observer.warnings.size() == 5);
  CHECK(observer.warnings[0].find("is not a usable URL") != std::string::npos);
  for (std::size_t i = 1; i < 5; ++i)
    CHECK(observer.warnings[i].find("private address") != std::string::npos);
}

TEST_CASE("a folder that cannot be written gives an io error") {
  if (::geteuid() == 0) {
    MESSAGE("SKIPPED: root can write everywhere");
    return;
  }
  const Published release;
  fs::create_directories(release.out());
  ::chmod(release.out().c_str(), 0555);
  CHECK_ERROR(fetch_quietly(make_request(release.result.torrent, release.out(), {})), ErrorKind::io,
              "cannot");
  ::chmod(release.out().c_str(), 0755);
}
