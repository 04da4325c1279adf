#include <doctest/doctest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>

#include "tests/fetch/fetch_support.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
namespace fs = std::filesystem;

namespace {

/// A small file system in memory; only root can have one.
class SmallDisk {
 public:
  SmallDisk(fs::path path, const char* size) : path_(std::move(path)) {
    fs::create_directories(path_);
    mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, size) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  [[nodiscard]] bool mounted() const { return mounted_; }
  void fill() const {
    std::ofstream filler(path_ / "filler", std::ios::binary | std::ios::app);
    const std::string block(65536, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size()))) {
    }
  }
  void make_room() const { fs::remove(path_ / "filler"); }

 private:
  fs::path path_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE(
    "a disk that is too small is found before the first byte, one that fills up stops the fetch resumably") {
  const TempDir dir;
  write_files(dir / "model", large_files());
  const auto published = publish_folder(dir / "model");
  const SeedThread seeder(published.torrent, dir.path());
  auto request = make_request(published.torrent, dir / "small", {seeder.peer()});
  {
    const SmallDisk small(dir / "small", "size=20m");
    if (!small.mounted()) {
      MESSAGE("SKIPPED: no small file system can be mounted here");
      return;
    }
    RecordingObserver observer;
    CHECK_ERROR(fetch::fetch(request, observer, {}), ErrorKind::no_space, "28.6 MiB are needed, ");
    CHECK_FALSE(fs::exists(dir / "small/model"));
  }
  const SmallDisk disk(dir / "disk", "size=36m");
  request.output_folder = dir / "disk";
  request.limit_down_bytes_per_s = kSlowBytesPerS;
  RecordingObserver observer;
  bool filled = false;
  observer.hook = [&](const fetch::FetchStatus& status) {
    if (status.done_bytes < 22'000'000 || std::exchange(filled, true)) return;
    disk.fill();
  };
  CHECK_ERROR(fetch::fetch(request, observer, {}), ErrorKind::no_space, "No space left on device");
  disk.make_room();
  request.limit_down_bytes_per_s = 0;
  RecordingObserver again;
  const auto result = fetch::fetch(request, again, {});
  CHECK((read_files(result.path) == large_files()));
  CHECK(result.rehashed_bytes <= kSampledBytesMax);
  CHECK(result.downloaded_bytes < result.layout.payload_bytes());
}
