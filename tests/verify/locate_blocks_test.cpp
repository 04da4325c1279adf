// The leaf file of a torrent locates damage to 16 KiB, and is verified before it is used.

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "base/file.h"
#include "tests/support/temp_dir.h"
#include "tests/verify/release_maker.h"
#include "verify/verify.h"

using namespace sluice;
using namespace sluice::tests;
using verify::FileState;

namespace {

constexpr std::uint64_t kBlockBytes = 16384;

struct Damaged {
  TempDir dir;
  MadeRelease release;
  verify::Expectations expectations;
  format::ReleaseLayout with_leaves;

  Damaged() {
    std::mt19937 random(5);
    release.piece_bytes = 8 * kBlockBytes;
    for (const auto& [path, size] :
         {std::pair{"large", 30 * kBlockBytes + 77}, {"small", 3 * kBlockBytes - 1}}) {
      Content content(size);
      for (std::byte& byte : content) byte = static_cast<std::byte>(random());
      release.files.push_back({path, std::move(content), false});
    }
    add_pads(release);
    write_release(dir / "release", release);
    expectations.layout = make_layout(release, Hashes::hybrid);
    with_leaves = make_layout(release, Hashes::v2_leaves);
  }

  void use_leaves() {
    format::write_leaf_file(dir / "x.leaves", with_leaves);
    expectations.leaves = std::make_shared<const format::LeafFile>(format::LeafFile::open(dir / "x.leaves"));
  }

  void flip(const std::string& path, std::uint64_t offset_bytes) const {
    base::File file = base::File::open_update(dir / "release" / path);
    std::byte byte{};
    file.read_exact_at(offset_bytes, {&byte, 1});
    byte ^= std::byte{4};
    file.write_at(offset_bytes, {&byte, 1});
  }

  [[nodiscard]] verify::FileReport report_of(const std::string& path) const {
    base::NoProgress progress;
    verify::Options options;
    options.thread_count = 2;
    const auto report = verify::verify_release(dir / "release", expectations, options, progress, {});
    return *std::ranges::find(report.files, path, &verify::FileReport::path);
  }

  /// Offset and length of each damaged range, in blocks; the last one of a file can be short.
  using Blocks = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
  [[nodiscard]] Blocks blocks_of(const std::string& path) const {
    Blocks blocks;
    for (const auto& damage : report_of(path).damaged) {
      CHECK(damage.range.offset_bytes % kBlockBytes == 0);
      blocks.emplace_back(damage.range.offset_bytes / kBlockBytes,
                          base::divide_up(damage.range.length_bytes, kBlockBytes));
    }
    return blocks;
  }
};

}  // namespace

TEST_CASE("damage is located to the block with a leaf file") {
  Damaged damaged;
  damaged.flip("large", 9 * kBlockBytes + 5);
  damaged.flip("large", 10 * kBlockBytes);
  damaged.flip("large", 14 * kBlockBytes);
  damaged.flip("large", 30 * kBlockBytes + 76);
  damaged.flip("small", kBlockBytes);
  CHECK((damaged.blocks_of("large") == Damaged::Blocks{{8, 8}, {24, 7}}));
  CHECK((damaged.blocks_of("small") == Damaged::Blocks{{0, 3}}));
  damaged.use_leaves();
  CHECK((damaged.blocks_of("large") == Damaged::Blocks{{9, 2}, {14, 1}, {30, 1}}));
  CHECK((damaged.blocks_of("small") == Damaged::Blocks{{1, 1}}));
}

TEST_CASE("missing and surplus bytes are reported exactly") {
  Damaged damaged;
  damaged.use_leaves();
  std::filesystem::resize_file(damaged.dir / "release/large", 29 * kBlockBytes + 10);
  const auto cut = damaged.report_of("large");
  REQUIRE(cut.damaged.size() == 1);
  CHECK(cut.damaged[0].range.offset_bytes == 29 * kBlockBytes);
  CHECK(cut.damaged[0].range.length_bytes == kBlockBytes + 77);
  write_release(damaged.dir / "release", damaged.release);
  std::filesystem::resize_file(damaged.dir / "release/large", 30 * kBlockBytes + 100);
  const auto longer = damaged.report_of("large");
  REQUIRE(longer.damaged.size() == 1);
  CHECK(longer.damaged[0].range.offset_bytes == 30 * kBlockBytes + 77);
  CHECK(longer.damaged[0].range.length_bytes == 23);
}

TEST_CASE("leaves that are not the torrent's are ignored") {
  Damaged damaged;
  damaged.flip("large", 9 * kBlockBytes + 5);
  damaged.with_leaves.files[0].leaves[9] = damaged.with_leaves.files[0].leaves[10];
  damaged.use_leaves();
  CHECK((damaged.blocks_of("large") == Damaged::Blocks{{8, 8}}));
}

TEST_CASE("leaves change neither an intact file nor the state of a damaged one") {
  Damaged damaged;
  damaged.use_leaves();
  CHECK(damaged.report_of("large").state == FileState::ok);
  damaged.flip("large", 3);
  CHECK(damaged.report_of("large").state == FileState::damaged);
}
