// Files of a release folder that are missing, extra, or not regular files.

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <random>

#include "base/part_file.h"
#include "tests/support/as_nobody.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"
#include "tests/verify/verify_support.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
using verify::FileState;
namespace fs = std::filesystem;

TEST_CASE("missing, short and long files have different states, and their damage is reported") {
  for (const Hashes hashes : kAllHashes) {
    CAPTURE(static_cast<int>(hashes));
    MadeRelease release = three_files();
    if (hashes == Hashes::hybrid) add_pads(release);
    const auto layout = make_layout(release, hashes);
    const bool v1 = hashes == Hashes::v1;
    const bool placed = hashes != Hashes::v2_roots;

    TempDir dir;
    write_release(dir.path(), release);
    fs::remove(dir / "sub/b");
    auto report = run(dir.path(), by(layout));
    CHECK_FALSE(report.ok);
    CHECK(state_of(report, "sub/b") == FileState::missing);
    CHECK(ranges_of(report_of(report, "sub/b")) == Ranges{{0, 40000}});
    // A file that shares a v1 piece with it cannot be verified, and is not reported as wrong.
    CHECK(state_of(report, "a") == (v1 ? FileState::unproven : FileState::ok));
    CHECK(ranges_of(report_of(report, "a")) == (v1 ? Ranges{{32768, 7232}} : Ranges{}));
    CHECK(report.damaged_bytes == (v1 ? 40000u + 7232 + 1920 : 40000u));

    write_release(dir.path(), release);
    fs::resize_file(dir / "c", 39000);
    report = run(dir.path(), by(layout));
    CHECK_FALSE(report.ok);
    CHECK(state_of(report, "c") == FileState::damaged);
    CHECK(report_of(report, "c").problem == "has 39000 bytes, expected 40000");
    CHECK(report_of(report, "c").bytes == 39000);
    const std::uint64_t last_piece = v1 ? 34688 : 32768;
    const Ranges short_range = placed ? Ranges{{last_piece, 40000 - last_piece}} : Ranges{{0, 40000}};
    CHECK(ranges_of(report_of(report, "c")) == short_range);
    CHECK(state_of(report, "a") == FileState::ok);

    write_release(dir.path(), release);
    fs::resize_file(dir / "a", 40500);
    report = run(dir.path(), by(layout));
    CHECK_FALSE(report.ok);
    CHECK(state_of(report, "a") == FileState::damaged);
    CHECK(report_of(report, "a").problem == "has 40500 bytes, expected 40000");
    CHECK(ranges_of(report_of(report, "a")) == Ranges{{40000, 500}});
    CHECK(state_of(report, "sub/b") == FileState::ok);

    write_release(dir.path(), release);
    fs::resize_file(dir / "a", 40000);
    base::File::create(dir / "a").resize(0);
    report = run(dir.path(), by(layout));
    CHECK(ranges_of(report_of(report, "a")) == Ranges{{0, 40000}});
  }
}

TEST_CASE("an empty file must be there, and empty") {
  MadeRelease release = three_files();
  release.files.push_back({"empty", {}, false});
  for (const Hashes hashes : kAllHashes) {
    MadeRelease made = release;
    if (hashes == Hashes::hybrid) add_pads(made);
    const TempDir dir;
    write_release(dir.path(), made);
    CHECK(run(dir.path(), by(make_layout(made, hashes)), 1, true).ok);
    fs::remove(dir / "empty");
    auto report = run(dir.path(), by(make_layout(made, hashes)));
    CHECK_FALSE(report.ok);
    CHECK(state_of(report, "empty") == FileState::missing);
    base::write_file(dir / "empty", base::as_bytes("x"));
    report = run(dir.path(), by(make_layout(made, hashes)));
    CHECK_FALSE(report.ok);
    CHECK(ranges_of(report_of(report, "empty")) == Ranges{{0, 1}});
  }
}

TEST_CASE("extra files are named, and make a report not ok only when it is strict") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  const auto expectations = by(make_layout(release, Hashes::v1));
  base::write_file(dir / "sub/extra", base::as_bytes("xyz"));
  const auto report = run(dir.path(), expectations);
  CHECK(report.ok);
  CHECK(report.files.size() == 4);
  CHECK(state_of(report, "sub/extra") == FileState::extra);
  CHECK(report_of(report, "sub/extra").bytes == 3);
  CHECK_FALSE(run(dir.path(), expectations, 1, true).ok);
}

TEST_CASE("Sluice's own files, pads on disk and empty folders are never extra") {
  MadeRelease release = three_files();
  add_pads(release);
  const TempDir dir;
  write_release(dir.path(), release);
  fs::create_directories(dir / ".sluice/deep");
  fs::create_directories(dir / "empty/folder");
  base::write_file(dir / ".sluice/deep/journal", base::as_bytes("x"));
  base::PartFile unfinished(dir / "sub/other.sluice");
  const base::AtomicFile being_written(dir / "sub/model.sluice");
  fs::create_directory(dir / ".pad");
  base::write_file(dir / release.files[1].path, release.files[1].content);  // aria2 writes pads
  const auto report = run(dir.path(), by(make_layout(release, Hashes::hybrid)), 1, true);
  CHECK(report.ok);
  CHECK(report.files.size() == 3);
  base::write_file(dir / "sub/.sluice", base::as_bytes("not ours"));
  CHECK_FALSE(run(dir.path(), by(make_layout(release, Hashes::hybrid)), 1, true).ok);
}

TEST_CASE("without anything to compare with, nothing is ok") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  CHECK_FALSE(run(dir.path(), {}).ok);
  CHECK(run(dir.path(), {}).proven_by.empty());

  auto manifest = manifest_of(release);
  for (auto& file : manifest.files) file = {file.path, file.length_bytes, {}, {}, {}};
  auto report = run(dir.path(), by(manifest));
  CHECK_FALSE(report.ok);
  CHECK(report.proven_by.empty());
  CHECK(report.bytes == 0);
  for (const auto& file : report.files) CHECK(file.state == FileState::unproven);

  // One digest proves something; the others stay unproven, which only strictness minds.
  manifest.files[0].md5 = base::hash<base::Md5>(release.files[0].content);
  report = run(dir.path(), by(manifest));
  CHECK(report.ok);
  CHECK(report.bytes == 40000);
  CHECK(state_of(report, "sub/b") == FileState::unproven);
  CHECK_FALSE(run(dir.path(), by(manifest), 1, true).ok);

  // A wrong size is wrong without any digest.
  fs::resize_file(dir / "c", 3);
  report = run(dir.path(), by(manifest));
  CHECK_FALSE(report.ok);
  CHECK(state_of(report, "c") == FileState::damaged);
}

TEST_CASE("a manifest adds files that the torrent does not have") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  base::write_file(dir / "LICENSE", base::as_bytes("abc"));
  auto manifest = manifest_of(release);
  format::ManifestFile& licence = manifest.files.emplace_back();
  licence.path = "LICENSE";
  licence.sha256 = base::hash<base::Sha256>(base::as_bytes("abc"));
  const auto layout = make_layout(release, Hashes::v1);
  CHECK(run(dir.path(), {layout, manifest}, 2, true).ok);
  base::write_file(dir / "LICENSE", base::as_bytes("abd"));
  auto report = run(dir.path(), {layout, manifest});
  CHECK(state_of(report, "LICENSE") == FileState::damaged);
  CHECK(state_of(report, "c") == FileState::ok);
  fs::remove(dir / "LICENSE");
  report = run(dir.path(), {layout, manifest});
  CHECK(state_of(report, "LICENSE") == FileState::missing);
  CHECK_FALSE(report.ok);
}

TEST_CASE("symbolic links and special files are not followed, even to the right bytes") {
  const MadeRelease release = three_files();
  const TempDir dir;
  const TempDir elsewhere;
  write_release(dir.path(), release);
  write_release(elsewhere.path(), release);
  const auto expectations = by(make_layout(release, Hashes::v1));

  fs::remove(dir / "a");
  fs::create_symlink(elsewhere / "a", dir / "a");
  auto report = run(dir.path(), expectations);
  CHECK_FALSE(report.ok);
  CHECK(state_of(report, "a") == FileState::unreadable);
  CHECK(report_of(report, "a").problem.find("symbolic link") != std::string::npos);
  fs::remove(dir / "a");
  write_release(dir.path(), release);
  REQUIRE(run(dir.path(), expectations).ok);

  fs::remove_all(dir / "sub");
  fs::create_directory_symlink(elsewhere / "sub", dir / "sub");
  report = run(dir.path(), expectations);
  CHECK(state_of(report, "sub/b") == FileState::unreadable);
  CHECK(state_of(report, "sub") == FileState::extra);
  fs::remove(dir / "sub");
  write_release(dir.path(), release);

  fs::create_symlink(elsewhere / "a", dir / "link");
  fs::create_symlink(dir.path(), dir / "loop");
  report = run(dir.path(), expectations);
  CHECK(report.ok);
  CHECK(report.files.size() == 5);
  CHECK(state_of(report, "link") == FileState::extra);

  fs::remove(dir / "c");
  REQUIRE(::mkfifo((dir / "c").c_str(), 0600) == 0);
  CHECK(state_of(run(dir.path(), expectations), "c") == FileState::unreadable);
  fs::remove(dir / "c");
  fs::create_directory(dir / "c");
  CHECK(state_of(run(dir.path(), expectations), "c") == FileState::unreadable);
}

TEST_CASE("in the cache of huggingface_hub, links to the blobs of the model are its files, and no others") {
  const MadeRelease release = three_files();
  const TempDir dir;
  const auto model = dir / "models--org--name";
  const auto snapshot = model / "snapshots" / "rev";
  fs::create_directories(snapshot);
  write_release(snapshot, release);
  fs::create_directories(model / "blobs");
  fs::rename(snapshot / "a", model / "blobs" / "1");
  fs::rename(snapshot / "sub" / "b", model / "blobs" / "2");
  fs::create_symlink("../../blobs/1", snapshot / "a");
  fs::create_symlink("../../../blobs/2", snapshot / "sub" / "b");
  const auto expectations = by(make_layout(release, Hashes::v1));
  REQUIRE(run(snapshot, expectations).ok);

  fs::rename(model / "blobs" / "1", dir / "elsewhere");
  fs::remove(snapshot / "a");
  fs::create_symlink(dir / "elsewhere", snapshot / "a");
  CHECK(state_of(run(snapshot, expectations), "a") == FileState::unreadable);
  // A blob that is a link itself is no way out either.
  fs::create_symlink(dir / "elsewhere", model / "blobs" / "1");
  fs::remove(snapshot / "a");
  fs::create_symlink("../../blobs/1", snapshot / "a");
  CHECK(state_of(run(snapshot, expectations), "a") == FileState::unreadable);
}

TEST_CASE("a file that may not be read is unreadable, and not missing") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  constexpr auto kOpen = fs::perms::owner_all | fs::perms::group_all | fs::perms::others_all;
  fs::permissions(dir.path(), kOpen);
  fs::permissions(dir / "a", fs::perms::none);
  fs::permissions(dir / "sub", fs::perms::none);
  const AsNobody nobody;
  const auto report = run(dir.path(), by(make_layout(release, Hashes::v2)));
  CHECK_FALSE(report.ok);
  CHECK(state_of(report, "a") == FileState::unreadable);
  CHECK(report_of(report, "a").problem.find("Permission denied") != std::string::npos);
  CHECK(state_of(report, "sub/b") == FileState::unreadable);
  CHECK(state_of(report, "c") == FileState::ok);
}

TEST_CASE("a file that changes while it is read is neither right nor wrong") {
  class Meddler final : public base::Progress {
   public:
    explicit Meddler(fs::path path) : path_(std::move(path)) {}
    void begin(std::string_view, std::uint64_t) override {}
    void advance(std::uint64_t) override { fs::resize_file(path_, 41000); }
    void warn(std::string_view) override {}

   private:
    fs::path path_;
  };
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  Meddler meddler(dir / "a");
  const auto report =
      verify::verify_release(dir.path(), by(make_layout(release, Hashes::v2)), {1, 0, false}, meddler, {});
  CHECK_FALSE(report.ok);
  CHECK(state_of(report, "a") == FileState::changed);
  CHECK(state_of(report, "sub/b") == FileState::ok);
}

TEST_CASE("a single-file release is found in a folder of other files, which are ignored") {
  MadeRelease release;
  std::mt19937 random(9);
  release.files.push_back({"model.bin", random_content(random, 50000), false});
  auto layout = make_layout(release, Hashes::hybrid);
  layout.name = "model.bin";
  layout.single_file = true;
  const TempDir dir;
  write_release(dir.path(), release);
  base::write_file(dir / "holiday.jpg", base::as_bytes("x"));
  auto report = run(dir.path(), by(layout), 1, true);
  CHECK(report.ok);
  CHECK(report.files.size() == 1);
  fs::remove(dir / "model.bin");
  CHECK(state_of(run(dir.path(), by(layout)), "model.bin") == FileState::missing);
  fs::create_symlink(dir / "holiday.jpg", dir / "model.bin");
  CHECK(state_of(run(dir.path(), by(layout)), "model.bin") == FileState::unreadable);
  fs::permissions(dir.path(), fs::perms::owner_all);
  const AsNobody nobody;
  CHECK(state_of(run(dir.path(), by(layout)), "model.bin") == FileState::unreadable);
}

TEST_CASE("a failure that prevents verification is an error") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  const auto layout = make_layout(release, Hashes::v1);
  CHECK_ERROR(run(dir / "none", by(layout)), ErrorKind::io, "cannot open folder");
  CHECK_ERROR(run(dir / "a", by(layout)), ErrorKind::io, "is not a folder");

  auto broken = layout;
  broken.v1_pieces.pop_back();
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed, "has 7 v1 pieces, its files make 8");
  broken = layout;
  broken.piece_bytes = 0;
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed, "pieces of 0 bytes");
  broken = layout;
  broken.files[0].path = "../a";
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed, "unsafe file name");
  broken = layout;
  broken.files[0].length_bytes = ~0ull;
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed, "larger than 2^64");
  broken = make_layout(release, Hashes::v2);
  broken.files[0].piece_layer[1].bytes[0] ^= std::byte{1};
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed,
              "the piece hashes of 'a' do not make its root");
  broken = make_layout(release, Hashes::v2);
  broken.files[0].piece_layer.pop_back();
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed, "has 2 piece hashes for 'a', expected 3");
  broken = make_layout(release, Hashes::v2_leaves);
  broken.files[2].leaves[0].bytes[0] ^= std::byte{1};
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed,
              "the block hashes of 'c' do not make its root");
  broken = make_layout(release, Hashes::v2);
  broken.piece_bytes = 50000;
  CHECK_ERROR(run(dir.path(), by(broken)), ErrorKind::malformed, "v2 hashes over pieces of 50000 bytes");

  auto named = layout;
  named.infohash_v1.emplace();
  auto manifest = manifest_of(release);
  manifest.infohash_v1.emplace().bytes[0] = std::byte{1};
  CHECK_ERROR(run(dir.path(), {named, manifest}), ErrorKind::verification,
              "is not the one that the manifest names");

  std::stop_source stop;
  stop.request_stop();
  base::NoProgress progress;
  CHECK_ERROR(verify::verify_release(dir.path(), by(layout), {}, progress, stop.get_token()),
              ErrorKind::interrupted, "interrupted");
}

TEST_CASE("a torrent whose padding is not the hash of zeros is refused") {
  MadeRelease release;
  std::mt19937 random(4);
  release.files = {{"a", random_content(random, 16384), false},
                   {".pad/16384", Content(16384), true},
                   {"b", random_content(random, 9), false}};
  auto layout = make_layout(release, Hashes::hybrid);
  const TempDir dir;
  write_release(dir.path(), release);
  CHECK(run(dir.path(), by(layout)).ok);
  layout.v1_pieces[1].bytes[0] ^= std::byte{1};
  CHECK_ERROR(run(dir.path(), by(layout)), ErrorKind::malformed, "v1 piece 1 is all padding");
}

TEST_CASE("progress is reported for every byte that is read") {
  class Counter final : public base::Progress {
   public:
    void begin(std::string_view, std::uint64_t total_bytes) override { total = total_bytes; }
    void advance(std::uint64_t bytes) override { done += bytes; }
    void warn(std::string_view) override {}
    std::uint64_t total = 0, done = 0;
  };
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  fs::remove(dir / "a");
  fs::resize_file(dir / "c", 100);
  Counter counter;
  static_cast<void>(verify::verify_release(
      dir.path(), {make_layout(release, Hashes::v1), manifest_of(release)}, {1, 0, false}, counter, {}));
  CHECK(counter.total == 40100);
  CHECK(counter.done == 40100);
}

TEST_CASE("states have the names and marks of the reports") {
  CHECK(to_string(FileState::unproven) == "unproven");
  std::string marks;
  for (const FileState state : {FileState::ok, FileState::damaged, FileState::missing, FileState::extra,
                                FileState::unreadable, FileState::unproven, FileState::changed})
    marks += to_mark(state);
  CHECK(marks == "=*-+!?~");
}
