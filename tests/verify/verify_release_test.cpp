// Damage in the files of a release, as each kind of digest finds it.

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/support/temp_dir.h"
#include "tests/verify/verify_support.h"

using namespace sluice;
using namespace sluice::tests;
using verify::FileState;
namespace fs = std::filesystem;

namespace {

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

TEST_CASE("a manifest's SHA-256 shows that the neighbour in a wrong v1 piece is intact") {
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

TEST_CASE("references that contradict each other make the file damaged, whichever is right") {
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
