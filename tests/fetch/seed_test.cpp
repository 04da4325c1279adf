#include <doctest/doctest.h>

#include <filesystem>

#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
namespace fs = std::filesystem;

namespace {

class SilentObserver final : public fetch::SeedObserver {
 public:
  void on_listening(int) override {}
  void on_status(std::uint64_t, std::uint64_t, unsigned) override {}
  void on_warning(std::string_view) override {}
};

void seed_once(const fs::path& torrent, const fs::path& folder, int port = 0) {
  fetch::SeedRequest request;
  request.torrent = torrent;
  request.folder = folder;
  request.port = port;
  request.listen_address = "127.0.0.1";
  request.dht = false;
  request.lsd = false;
  SilentObserver observer;
  fetch::seed(request, observer, {});
}

}  // namespace

TEST_CASE("what is not complete is not shared, and the file is named") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const auto published = publish_folder(dir / "model");
  fs::resize_file(dir / "model/params.json", 3);
  CHECK_ERROR(seed_once(published.torrent, dir.path()), ErrorKind::incomplete,
              "model/params.json: has 3 bytes, expected 12");
  fs::remove(dir / "model/params.json");
  CHECK_ERROR(seed_once(published.torrent, dir.path()), ErrorKind::incomplete,
              "model/params.json: the file is missing");
  fs::create_directory(dir / "model/params.json");
  CHECK_ERROR(seed_once(published.torrent, dir.path()), ErrorKind::malformed,
              "model/params.json: is not a regular");
  CHECK_ERROR(seed_once(published.torrent, dir / "nowhere"), ErrorKind::incomplete, "the file is missing");
  CHECK_ERROR(seed_once(dir / "none.torrent", dir.path()), ErrorKind::io, "none.torrent");
}

TEST_CASE("a v2 torrent without piece layers is not shared") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const std::string content = make_lt_torrent(dir / "model", LtVersion::v2);
  const std::size_t layers = content.find("12:piece layers");
  write_text(dir / "bare.torrent", content.substr(0, layers) + "12:piece layersdee");
  CHECK_ERROR(seed_once(dir / "bare.torrent", dir.path()), ErrorKind::malformed, "has no piece layer of '");
}

TEST_CASE("a port that is taken is an error, not another port") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const auto published = publish_folder(dir / "model");
  const SeedThread first(published.torrent, dir.path());
  CHECK_ERROR(seed_once(published.torrent, dir.path(), first.port()), ErrorKind::io,
              "cannot listen for peers");
}

TEST_CASE("damaged bytes on a seeder's disk are not sent") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const auto published = publish_folder(dir / "model", true);
  std::string damaged = sample_files().at("consolidated.00.pth");
  damaged[300'000] = static_cast<char>(damaged[300'000] ^ 1);
  write_text(dir / "model/consolidated.00.pth", damaged);
  const SeedThread seeder(published.torrent, dir.path());
  auto request = make_request(published.torrent, dir / "out", {seeder.peer()});
  request.timeout_s = 2;
  RecordingObserver observer;
  CHECK_ERROR(fetch::fetch(request, observer, {}), ErrorKind::no_peers, "no peer delivered payload");
  for (const std::string& warning : observer.warnings)
    CHECK_MESSAGE(warning.find("arrived damaged") == std::string::npos, warning);
}
