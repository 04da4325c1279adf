#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <random>

#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "tests/support/as_nobody.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"
#include "tests/verify/release_maker.h"
#include "verify/verify.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
using verify::FileState;
namespace fs = std::filesystem;

namespace {

using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // offset, length

Ranges ranges_of(const verify::FileReport& file) {
  Ranges ranges;
  for (const auto& range : file.damaged) ranges.emplace_back(range.offset_bytes, range.length_bytes);
  return ranges;
}

verify::Report run(const fs::path& folder, const verify::Expectations& expectations, unsigned threads = 2,
                   bool strict = false) {
  base::NoProgress progress;
  return verify::verify_release(folder, expectations, {threads, 1u << 20, strict}, progress, {});
}

verify::Expectations by(format::ReleaseLayout layout) { return {std::move(layout), std::nullopt}; }
verify::Expectations by(format::Manifest manifest) { return {std::nullopt, std::move(manifest)}; }

const verify::FileReport& report_of(const verify::Report& report, const std::string& path) {
  const auto found = std::ranges::find(report.files, path, &verify::FileReport::path);
  REQUIRE_MESSAGE(found != report.files.end(), path);
  return *found;
}

FileState state_of(const verify::Report& report, const std::string& path) {
  return report_of(report, path).state;
}

Content random_content(std::mt19937& random, std::size_t count) {
  Content content(count);
  for (std::byte& b : content) b = static_cast<std::byte>(random());
  return content;
}

std::size_t below(std::mt19937& random, std::size_t limit) {
  return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
}

MadeRelease random_release(std::mt19937& random) {
  MadeRelease release;
  release.piece_bytes = 16384u << below(random, 3);
  const std::size_t count = 1 + below(random, 6);
  constexpr std::size_t kSizes[] = {0, 1, 16384, 16385, 65536, 131072};
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t size =
        below(random, 3) == 0 ? kSizes[below(random, std::size(kSizes))] : below(random, 300000);
    release.files.push_back(
        {(i % 2 == 0 ? "f" : "sub/f") + std::to_string(i), random_content(random, size), false});
  }
  if (release.files.front().content.empty()) release.files.front().content = random_content(random, 100);
  return release;
}

/// Flips one bit of the file on disk.
void flip(const fs::path& file, std::uint64_t at_bit) {
  std::byte b{};
  base::File target = base::File::open_update(file);
  target.read_exact_at(at_bit / 8, {&b, 1});
  b ^= std::byte{1} << static_cast<int>(at_bit % 8);
  target.write_at(at_bit / 8, {&b, 1});
}

/// Damage by the definitions: which units hold a flipped byte.
class Oracle {
 public:
  Oracle(const MadeRelease& release, Hashes hashes) : release_(release), hashes_(hashes) {}

  void flipped(std::size_t file, std::uint64_t at_byte) {
    const std::uint64_t length = release_.files[file].content.size();
    const std::uint64_t piece = release_.piece_bytes;
    if (hashes_ == Hashes::v1) {
      mark_v1((offset_of(file) + at_byte) / piece);
    } else if (hashes_ == Hashes::v2_roots) {
      mark(file, 0, length);
    } else {
      const std::uint64_t unit = hashes_ == Hashes::v2_leaves ? 16384 : piece;
      mark(file, at_byte / unit * unit, std::min(length, at_byte / unit * unit + unit));
    }
  }

  [[nodiscard]] Ranges expected(std::size_t file) const {
    const auto found = bytes_.find(file);
    Ranges ranges;
    if (found == bytes_.end()) return ranges;
    for (std::size_t i = 0; i < found->second.size(); ++i) {
      if (!found->second[i]) continue;
      if (ranges.empty() || ranges.back().first + ranges.back().second != i) ranges.emplace_back(i, 0);
      ++ranges.back().second;
    }
    return ranges;
  }

 private:
  std::uint64_t offset_of(std::size_t file) const {
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < file; ++i) offset += release_.files[i].content.size();
    return offset;
  }

  void mark(std::size_t file, std::uint64_t from, std::uint64_t to) {
    auto& bytes = bytes_[file];
    bytes.resize(release_.files[file].content.size());
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from),
              bytes.begin() + static_cast<std::ptrdiff_t>(to), true);
  }

  void mark_v1(std::uint64_t piece) {
    const std::uint64_t start = piece * release_.piece_bytes;
    for (std::size_t i = 0; i < release_.files.size(); ++i) {
      const std::uint64_t begin = std::max(start, offset_of(i));
      const std::uint64_t end =
          std::min(start + release_.piece_bytes, offset_of(i) + release_.files[i].content.size());
      if (begin < end) mark(i, begin - offset_of(i), end - offset_of(i));
    }
  }

  const MadeRelease& release_;
  Hashes hashes_;
  std::map<std::size_t, std::vector<bool>> bytes_;
};

constexpr Hashes kAllHashes[] = {Hashes::v1, Hashes::v2, Hashes::v2_leaves, Hashes::v2_roots, Hashes::hybrid};

format::Manifest manifest_of(const MadeRelease& release) {
  format::Manifest manifest;
  manifest.name = "m";
  for (const MadeFile& made : release.files) {
    if (made.pad) continue;
    format::ManifestFile& file = manifest.files.emplace_back();
    file.path = made.path;
    file.length_bytes = made.content.size();
    file.md5 = base::hash<base::Md5>(made.content);
    file.sha256 = base::hash<base::Sha256>(made.content);
    file.root = base::merkle_digest(made.content);
  }
  return manifest;
}

/// Three files, of which the v1 pieces of 16 KiB run across the borders.
MadeRelease three_files() {
  std::mt19937 random(7);
  MadeRelease release;
  for (const char* path : {"a", "sub/b", "c"})
    release.files.push_back({path, random_content(random, 40000), false});
  return release;
}

}  // namespace

TEST_CASE("an intact release is ok by every kind of hashes, in any number of threads") {
  std::mt19937 random(1);
  for (int round = 0; round < 30; ++round) {
    for (const Hashes hashes : kAllHashes) {
      CAPTURE(round);
      CAPTURE(static_cast<int>(hashes));
      MadeRelease release = random_release(random);
      if (hashes == Hashes::hybrid) add_pads(release);
      const TempDir dir;
      write_release(dir.path(), release);
      const auto layout = make_layout(release, hashes);
      const auto report = run(dir.path(), by(layout), 1 + static_cast<unsigned>(below(random, 4)));
      CHECK(report.ok);
      CHECK(report.bytes == layout.payload_bytes());
      CHECK(report.damaged_bytes == 0);
      for (const auto& file : report.files) {
        CHECK(file.state == FileState::ok);
        CHECK(file.problem.empty());
      }
      std::vector<std::string> proven_by;
      if (hashes == Hashes::v1 || hashes == Hashes::hybrid) proven_by.emplace_back("v1");
      if (hashes != Hashes::v1) proven_by.emplace_back("v2");
      CHECK(report.proven_by == proven_by);
    }
  }
}

TEST_CASE("every flipped bit is found, in its file, and in no more than the unit of its hash") {
  std::mt19937 random(2);
  for (int round = 0; round < 80; ++round) {
    for (const Hashes hashes : kAllHashes) {
      CAPTURE(round);
      CAPTURE(static_cast<int>(hashes));
      MadeRelease release = random_release(random);
      if (hashes == Hashes::hybrid) add_pads(release);
      const TempDir dir;
      write_release(dir.path(), release);
      Oracle oracle(release, hashes);
      std::vector<std::uint64_t> flipped;  // a bit that is flipped twice is whole again
      for (std::size_t left = 1 + below(random, 3); left > 0;) {
        const std::size_t file = below(random, release.files.size());
        if (release.files[file].pad || release.files[file].content.empty()) continue;
        const std::uint64_t bit = below(random, release.files[file].content.size() * 8);
        if (std::ranges::find(flipped, file << 32 | bit) != flipped.end()) continue;
        flipped.push_back(file << 32 | bit);
        flip(dir / release.files[file].path, bit);
        oracle.flipped(file, bit / 8);
        --left;
      }
      const auto report =
          run(dir.path(), by(make_layout(release, hashes)), 1 + static_cast<unsigned>(below(random, 3)));
      CHECK_FALSE(report.ok);
      std::uint64_t damaged_bytes = 0;
      for (std::size_t i = 0; i < release.files.size(); ++i) {
        if (release.files[i].pad) continue;
        const auto expected = oracle.expected(i);
        const auto& file = report_of(report, release.files[i].path);
        CHECK(ranges_of(file) == expected);
        CHECK(file.state == (expected.empty() ? FileState::ok : FileState::damaged));
        CHECK(file.problem.empty() == expected.empty());
        for (const auto& [offset, length] : expected) damaged_bytes += length;
      }
      CHECK(report.damaged_bytes == damaged_bytes);
    }
  }
}

TEST_CASE("a manifest alone finds every flipped bit, and names the file") {
  std::mt19937 random(3);
  for (int round = 0; round < 60; ++round) {
    const MadeRelease release = random_release(random);
    const TempDir dir;
    write_release(dir.path(), release);
    auto manifest = manifest_of(release);
    const std::size_t kind = below(random, 3);
    for (auto& file : manifest.files) {
      if (below(random, 2) == 0) file.length_bytes.reset();
      if (kind != 0) file.md5.reset();
      if (kind != 1) file.sha256.reset();
      if (kind != 2) file.root.reset();
    }
    auto report = run(dir.path(), by(manifest));
    CHECK(report.ok);
    CHECK(report.proven_by == std::vector<std::string>{kind == 0 ? "md5" : kind == 1 ? "sha256" : "v2"});

    const MadeFile& victim = release.files.front();
    flip(dir / victim.path, below(random, victim.content.size() * 8));
    report = run(dir.path(), by(manifest));
    CHECK_FALSE(report.ok);
    for (const auto& file : report.files)
      CHECK(file.state == (file.path == victim.path ? FileState::damaged : FileState::ok));
    CHECK(ranges_of(report_of(report, victim.path)) == Ranges{{0, victim.content.size()}});
    CHECK(report_of(report, victim.path).problem.find(", expected ") != std::string::npos);
  }
}

TEST_CASE("a manifest's SHA-256 clears the neighbour with which damage shares a v1 piece") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  flip(dir / "sub/b", 0);  // piece 2 holds the end of a and the start of b
  const auto layout = make_layout(release, Hashes::v1);
  auto report = run(dir.path(), by(layout));
  CHECK(ranges_of(report_of(report, "a")) == Ranges{{32768, 7232}});
  CHECK(ranges_of(report_of(report, "sub/b")) == Ranges{{0, 9152}});

  auto manifest = manifest_of(release);
  report = run(dir.path(), {layout, manifest});
  CHECK(state_of(report, "a") == FileState::ok);
  CHECK(ranges_of(report_of(report, "sub/b")) == Ranges{{0, 9152}});
  CHECK(report.proven_by == std::vector<std::string>{"v1", "v2", "sha256", "md5"});

  // Each SHA-256 does it alone. MD5 is too weak for that.
  for (const bool by_root : {true, false}) {
    auto alone = manifest;
    for (auto& file : alone.files) {
      if (by_root) file.sha256.reset();
      if (!by_root) file.root.reset();
    }
    CHECK(state_of(run(dir.path(), {layout, alone}), "a") == FileState::ok);
  }
  for (auto& file : manifest.files) {
    file.sha256.reset();
    file.root.reset();
  }
  CHECK(state_of(run(dir.path(), {layout, manifest}), "a") == FileState::damaged);
}

TEST_CASE("promises that contradict each other are not kept, whichever is right") {
  const MadeRelease release = three_files();
  const TempDir dir;
  write_release(dir.path(), release);
  const auto layout = make_layout(release, Hashes::v1);
  const auto manifest = manifest_of(release);

  auto other_piece = layout;
  other_piece.v1_pieces[2].bytes[0] ^= std::byte{1};
  auto report = run(dir.path(), {other_piece, manifest});
  CHECK_FALSE(report.ok);
  CHECK(ranges_of(report_of(report, "a")) == Ranges{{32768, 7232}});
  CHECK(ranges_of(report_of(report, "sub/b")) == Ranges{{0, 9152}});
  CHECK(state_of(report, "c") == FileState::ok);

  for (const Hashes hashes : {Hashes::v1, Hashes::v2}) {
    const auto intact = make_layout(release, hashes);
    auto other_manifest = manifest;
    other_manifest.files[1].sha256->bytes[0] ^= std::byte{1};
    report = run(dir.path(), {intact, other_manifest});
    CHECK_FALSE(report.ok);
    CHECK(ranges_of(report_of(report, "sub/b")) == Ranges{{0, 40000}});

    other_manifest = manifest;
    other_manifest.files[1].length_bytes = 39999;
    report = run(dir.path(), {intact, other_manifest});
    CHECK(state_of(report, "sub/b") == FileState::damaged);
    CHECK(report_of(report, "sub/b").problem.find("39999 by the manifest") != std::string::npos);
  }

  auto hybrid = three_files();
  add_pads(hybrid);
  auto twisted = make_layout(hybrid, Hashes::hybrid);
  twisted.v1_pieces[1].bytes[3] ^= std::byte{1};  // v2 says that a is right, v1 that it is not
  report = run(dir.path(), by(twisted));
  CHECK_FALSE(report.ok);
  CHECK(ranges_of(report_of(report, "a")) == Ranges{{16384, 16384}});
}

TEST_CASE("missing, short and long files are told apart, with what is wrong of them") {
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
    // What shares a v1 piece with it cannot be proven, nor is it known to be wrong.
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

TEST_CASE("symbolic links and what is no file are not followed, even to the right bytes") {
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

TEST_CASE("what may not be read is unreadable, and not missing") {
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

TEST_CASE("a release of one file is looked for among strangers that are left alone") {
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

TEST_CASE("what keeps verification from looking is an error") {
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

TEST_CASE("progress is told of every byte that is read") {
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
