#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/file.h"
#include "format/checkpoint_index.h"
#include "format/container_reader.h"
#include "tests/support/make_container.h"
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

TEST_CASE("damage in a checkpoint is named by the tensors and rows that it touches, and no others") {
  CheckpointRelease release;
  const auto index = format::open_checkpoint(release.dir / kWeights);
  const auto* tensor = index.find("layers.1.feed_forward.experts.2.w1.weight");
  REQUIRE(tensor != nullptr);
  const std::uint64_t at = tensor->offset_bytes + tensor->extent_bytes / 2;
  const auto report = release.damage(at);
  REQUIRE(report.damaged.size() == 1);
  const std::uint64_t block = at / 16384 * 16384;
  CHECK(report.damaged[0].range.offset_bytes == block);
  CHECK(report.damaged[0].range.length_bytes == 16384);
  std::map<std::string, std::optional<format::RowSpan>> expected;
  for (const auto& other : index.tensors) {
    const std::uint64_t begin = std::max(block, other.offset_bytes);
    const std::uint64_t end = std::min(block + 16384, other.offset_bytes + other.extent_bytes);
    if (begin >= end) continue;
    auto& rows = expected[other.name];
    if (other.shape.size() < 2) continue;
    const std::uint64_t row_bytes = other.shape[1] * format::size_bytes(other.dtype);
    rows = {(begin - other.offset_bytes) / row_bytes, (end - 1 - other.offset_bytes) / row_bytes};
  }
  CHECK(expected.contains(tensor->name));
  CHECK(expected.size() < index.tensors.size());
  std::map<std::string, std::optional<format::RowSpan>> found;
  for (const auto& touched : report.damaged[0].tensors) found[touched.name] = touched.rows;
  CHECK(found.size() == report.damaged[0].tensors.size());
  CHECK(found == expected);
}

TEST_CASE("damage in the zip's headers still has names") {
  CheckpointRelease release;
  const auto index = format::open_checkpoint(release.dir / kWeights);
  // In the local header of the member behind this tensor's, which ends it up to 64 bytes before.
  const auto* tensor = index.find("layers.0.attention.wq.weight");
  const auto report = release.damage(tensor->offset_bytes + tensor->extent_bytes + 24 + 26);
  REQUIRE(report.damaged.size() == 1);
  const auto& range = report.damaged[0];
  CHECK(std::ranges::find(range.tensors, tensor->name, &verify::TouchedTensor::name) != range.tensors.end());
  const auto is_header = [](const std::string& part) { return part.starts_with("zip header of data/"); };
  CHECK(std::ranges::any_of(range.parts, is_header));
  CHECK(std::ranges::find(range.parts, "padding") != range.parts.end());
  CHECK(report.problem.find("not known") == std::string::npos);
}

TEST_CASE("damage to the zip's first bytes is named from its directory") {
  CheckpointRelease release;
  const auto report = release.damage(0);  // the zip's signature
  CHECK(report.state == verify::FileState::damaged);
  REQUIRE(report.damaged.size() == 1);
  CHECK(report.damaged[0].range.offset_bytes == 0);
  const auto& parts = report.damaged[0].parts;
  CHECK(std::ranges::find(parts, "zip header of data.pkl") != parts.end());
  CHECK(std::ranges::find(parts, "pickle data.pkl") != parts.end());
  CHECK(report.problem.find("not known") == std::string::npos);
}

TEST_CASE("damage to the index of tensors is named, and that the tensors are unknown") {
  SUBCASE("the pickle") {
    CheckpointRelease release;
    const auto report = release.damage(1000);
    REQUIRE(report.damaged.size() == 1);
    const auto& range = report.damaged[0];
    CHECK(std::ranges::find(range.parts, "pickle data.pkl") != range.parts.end());
    CHECK(range.tensors.empty());
    CHECK(report.problem.find("which tensors it touches is not known: ") != std::string::npos);
    CHECK_MESSAGE(report.problem.find("data.pkl': is damaged: its CRC-32") != std::string::npos,
                  report.problem);
  }
  SUBCASE("the zip directory") {
    CheckpointRelease release;
    const auto report = release.damage(fs::file_size(release.dir / kWeights) - 1);
    REQUIRE(report.damaged.size() == 1);
    CHECK(report.damaged[0].tensors.empty());
    CHECK(report.problem.find("not known: ") != std::string::npos);
    CHECK(report.problem.find("has no zip directory at its end") != std::string::npos);
  }
}

TEST_CASE("damage to a container that is part of a release is named by its tensors and parts") {
  const TempDir dir;
  const TempDir source;
  write_tiny_release(source.path(), tiny_params(), 1);
  const fs::path path = make_container(source.path(), dir / "m.sluice", convert::Quant::q4);
  const auto container = format::ContainerReader::open(path);
  MadeRelease release;
  release.files.push_back({"m.sluice", base::read_file(path), false});
  verify::Expectations expectations;
  expectations.layout = make_layout(release, Hashes::v2_leaves);
  const auto damage = [&](std::uint64_t at_byte) {
    base::File file = base::File::open_update(path);
    std::byte b{};
    file.read_exact_at(at_byte, {&b, 1});
    const std::byte bad = ~b;
    file.write_at(at_byte, {&bad, 1});
    base::NoProgress progress;
    auto report = verify::verify_release(dir.path(), expectations, {}, progress, {}).files.at(0);
    file.write_at(at_byte, {&b, 1});
    REQUIRE(report.damaged.size() == 1);
    return report;
  };
  const auto has_part = [](const verify::FileReport& report, const std::string& part) {
    const auto& parts = report.damaged[0].parts;
    return std::ranges::find(parts, part) != parts.end();
  };

  const auto* tensor = container.find("layers.1.feed_forward.experts.2.w2.weight");
  const auto report = damage(tensor->offset_bytes);
  const auto& tensors = report.damaged[0].tensors;
  const auto found = std::ranges::find(tensors, tensor->name, &verify::TouchedTensor::name);
  REQUIRE(found != tensors.end());
  CHECK(found->layer == 1);
  CHECK(found->expert == 2);
  CHECK_FALSE(found->rows.has_value());

  CHECK(has_part(damage(3), "header"));
  CHECK(has_part(damage(container.footer().file_bytes - 1), "footer"));
  const auto directory = damage(container.footer().directory_offset_bytes + 5);
  CHECK(directory.problem.ends_with("which tensors it touches is not known: the directory is damaged"));
  CHECK(directory.damaged[0].tensors.empty());
}

TEST_CASE("damage in a file that is not a checkpoint has no names") {
  CheckpointRelease release;
  base::File::open_update(release.dir / "tokenizer.model").resize(10);
  base::NoProgress progress;
  const auto report = verify::verify_release(release.dir.path(), release.expectations, {}, progress, {});
  for (const auto& file : report.files) {
    CHECK(file.state ==
          (file.path == "tokenizer.model" ? verify::FileState::damaged : verify::FileState::ok));
    for (const auto& range : file.damaged) {
      CHECK(range.tensors.empty());
      CHECK(range.parts.empty());
    }
  }
}
