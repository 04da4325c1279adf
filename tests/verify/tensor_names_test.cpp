#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "base/file.h"
#include "format/checkpoint_index.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"
#include "tests/verify/release_maker.h"
#include "verify/verify.h"

using namespace sluice;
using namespace sluice::tests;
namespace fs = std::filesystem;

namespace {

constexpr const char* kWeights = "consolidated.00.pth";

/// A release with a real checkpoint, and its layout by 16 KiB blocks.
struct CheckpointRelease {
  CheckpointRelease() {
    write_tiny_release(dir.path(), tiny_params(), 1);
    MadeRelease release;
    release.piece_bytes = 65536;
    for (const auto& entry : fs::directory_iterator(dir.path()))
      release.files.push_back({entry.path().filename().string(), base::read_file(entry.path()), false});
    expectations.layout = make_layout(release, Hashes::v2_leaves);
  }

  verify::FileReport damage(std::uint64_t at_byte) {
    base::File file = base::File::open_update(dir / kWeights);
    std::byte b{};
    file.read_exact_at(at_byte, {&b, 1});
    b = ~b;
    file.write_at(at_byte, {&b, 1});
    base::NoProgress progress;
    const auto report = verify::verify_release(dir.path(), expectations, {}, progress, {});
    CHECK_FALSE(report.ok);
    return *std::ranges::find(report.files, kWeights, &verify::FileReport::path);
  }

  TempDir dir;
  verify::Expectations expectations;
};

}  // namespace

TEST_CASE("damage in a checkpoint is named by the tensors that it touches, and no others") {
  CheckpointRelease release;
  const auto index = format::open_checkpoint(release.dir / kWeights);
  const auto* tensor = index.find("layers.1.feed_forward.experts.2.w1.weight");
  REQUIRE(tensor != nullptr);
  const std::uint64_t at = tensor->offset_bytes + tensor->extent_bytes / 2;
  const auto report = release.damage(at);
  REQUIRE(report.damaged.size() == 1);
  const std::uint64_t block = at / 16384 * 16384;
  CHECK(report.damaged[0].offset_bytes == block);
  CHECK(report.damaged[0].length_bytes == 16384);
  std::set<std::string> expected;
  for (const auto& other : index.tensors)
    if (other.offset_bytes < block + 16384 && other.offset_bytes + other.extent_bytes > block)
      expected.insert(other.name);
  CHECK(expected.contains(tensor->name));
  CHECK(expected.size() < index.tensors.size());
  const auto& names = report.damaged[0].tensors;
  CHECK(std::set<std::string>(names.begin(), names.end()) == expected);
  CHECK(names.size() == expected.size());
}

TEST_CASE("damage to the checkpoint's own index is found, and has no names") {
  CheckpointRelease release;
  const auto report = release.damage(0);  // the zip's signature
  CHECK(report.state == verify::FileState::damaged);
  REQUIRE(report.damaged.size() == 1);
  CHECK(report.damaged[0].offset_bytes == 0);
  CHECK(report.damaged[0].tensors.empty());
}

TEST_CASE("damage beside the tensors has no names") {
  CheckpointRelease release;
  const auto index = format::open_checkpoint(release.dir / kWeights);
  base::File::open_update(release.dir / "tokenizer.model").resize(10);
  base::NoProgress progress;
  const auto report = verify::verify_release(release.dir.path(), release.expectations, {}, progress, {});
  for (const auto& file : report.files) {
    CHECK(file.state ==
          (file.path == "tokenizer.model" ? verify::FileState::damaged : verify::FileState::ok));
    for (const auto& range : file.damaged) CHECK(range.tensors.empty());
  }
}
