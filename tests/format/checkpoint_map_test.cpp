#include "format/checkpoint_map.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include "base/file.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using tests::PthWriter;
using tests::TempDir;

const IsDamaged kNothing = [](std::uint64_t, std::uint64_t) { return false; };

/// Offsets of all elements of a view, or of one row, found by stepping through them.
std::set<std::uint64_t> bytes_of(const CheckpointTensor& tensor, std::optional<std::uint64_t> row = {}) {
  std::set<std::uint64_t> bytes;
  std::vector<std::uint64_t> at(tensor.shape.size(), 0);
  const auto count = element_count(tensor.shape).value();
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::uint64_t offset = 0;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
      at[axis] = rest % tensor.shape[axis];
      rest /= tensor.shape[axis];
      offset += at[axis] * tensor.strides[axis];
    }
    if (row && at[0] != *row) continue;
    const std::uint64_t item_bytes = size_bytes(tensor.dtype);
    for (std::uint64_t b = 0; b < item_bytes; ++b)
      bytes.insert(tensor.offset_bytes + offset * item_bytes + b);
  }
  return bytes;
}

bool any_in(const std::set<std::uint64_t>& bytes, std::uint64_t begin, std::uint64_t end) {
  const auto found = bytes.lower_bound(begin);
  return found != bytes.end() && *found < end;
}

CheckpointTensor view(Shape shape, std::vector<std::uint64_t> strides, DType dtype = DType::bf16) {
  CheckpointTensor tensor;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.strides = std::move(strides);
  tensor.offset_bytes = 10;
  return tensor;
}

}  // namespace

TEST_CASE("a range touches what stepping through the elements says, and the same rows") {
  struct Case {
    CheckpointTensor tensor;
    bool has_rows;
  };
  const std::vector<Case> cases = {
      {view({6, 4}, {4, 1}), true},              // row-major
      {view({6, 4}, {9, 2}), true},              // gaps between elements and rows
      {view({4, 6}, {1, 4}), false},             // transposed
      {view({3, 2, 4}, {20, 8, 1}), true},       // slices
      {view({2, 3, 4}, {4, 8, 1}), false},       // rows in one another
      {view({1, 5}, {77, 3}), true},             // one row
      {view({5, 1}, {3, 1}, DType::f32), true},  // one column
      {view({7}, {1}), false},
      {view({7}, {3}, DType::u8), false},
      {view({}, {}), false},
      {view({0, 3}, {3, 1}), false},
  };
  for (const auto& [tensor, has_rows] : cases) {
    CAPTURE(to_string(tensor.shape));
    const auto bytes = bytes_of(tensor);
    const std::uint64_t limit = (bytes.empty() ? 10 : *bytes.rbegin()) + 4;
    for (std::uint64_t begin = 5; begin < limit; ++begin) {
      for (std::uint64_t end = begin; end <= limit; ++end) {
        const bool expected = any_in(bytes, begin, end);
        if (touches(tensor, begin, end) != expected) FAIL_CHECK(begin << " to " << end);
        const auto rows = touched_rows(tensor, begin, end);
        if (!has_rows || !expected) {
          if (rows.has_value()) FAIL_CHECK("rows at " << begin << " to " << end);
          continue;
        }
        std::vector<std::uint64_t> touched;
        for (std::uint64_t row = 0; row < tensor.shape[0]; ++row)
          if (any_in(bytes_of(tensor, row), begin, end)) touched.push_back(row);
        if (rows != RowSpan{touched.front(), touched.back()})
          FAIL_CHECK("rows of " << begin << " to " << end);
      }
    }
  }
}

TEST_CASE("the map of a torch file has a name for every byte") {
  const TempDir dir;
  PthWriter writer;
  writer.add("a", DType::bf16, {4, 8}, std::string(64, 'a'));
  writer.add("b", DType::f32, {3}, std::string(12, 'b'));
  tests::write_plainly(dir / "x.pth", writer.to_bytes());
  const auto map = map_damaged_pth(dir / "x.pth", kNothing);
  REQUIRE(map.has_value());
  CHECK(map->problem.empty());
  CHECK(map->tensors.size() == 2);
  std::uint64_t at = 0;
  std::vector<std::string> names;
  for (const FilePart& part : map->parts) {
    CHECK(part.offset_bytes == at);
    at += part.length_bytes;
    names.push_back(part.name);
  }
  CHECK(at == writer.to_bytes().size());
  for (const char* expected : {"zip header of data.pkl", "pickle data.pkl", "zip data descriptor of data.pkl",
                               "padding", "storage data/0", "storage data/1", "zip directory"})
    CHECK_MESSAGE(std::ranges::find(names, expected) != names.end(), expected);
}

TEST_CASE("one wrong bit in headers and padding leaves the map as it was") {
  const TempDir dir;
  PthWriter writer;
  writer.add("a", DType::bf16, {40, 8}, std::string(640, 'a'));
  writer.add("b", DType::f32, {3}, std::string(12, 'b'));
  const std::string good = writer.to_bytes();
  tests::write_plainly(dir / "x.pth", good);
  const auto expected = map_damaged_pth(dir / "x.pth", kNothing);
  for (std::size_t at = 0; at < good.size(); ++at) {
    const auto part = std::ranges::find_if(expected->parts, [&](const FilePart& candidate) {
      return at < candidate.offset_bytes + candidate.length_bytes;
    });
    CAPTURE(at);
    CAPTURE(part->name);
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      tests::write_plainly(dir / "x.pth", bad);
      const auto found = map_damaged_pth(
          dir / "x.pth", [&](std::uint64_t offset, std::uint64_t length) { return at - offset < length; });
      if (part->name == "zip directory") {
        if (found && found->problem.empty()) CHECK(found->tensors.size() == 2);
        continue;
      }
      REQUIRE(found.has_value());
      CHECK(found->parts.size() == expected->parts.size());
      if (part->name == "pickle data.pkl") {
        CHECK(found->problem.find("data.pkl': is damaged") != std::string::npos);
        CHECK(found->tensors.empty());
        continue;
      }
      CHECK(found->problem.empty());
      REQUIRE(found->tensors.size() == 2);
      CHECK(found->tensors[0].offset_bytes == expected->tensors[0].offset_bytes);
      CHECK(found->tensors[1].offset_bytes == expected->tensors[1].offset_bytes);
    }
  }
}

TEST_CASE("a pickle without a checksum is believed only where it is not damaged") {
  const TempDir dir;
  PthWriter writer;
  writer.add("a", DType::bf16, {4, 8}, std::string(64, 'a'));
  auto parts = writer.parts();
  for (auto& part : parts) part.crc32 = 0;
  tests::write_plainly(dir / "x.pth", tests::make_zip(parts));
  CHECK(map_damaged_pth(dir / "x.pth", kNothing)->tensors.size() == 1);
  const auto map = map_damaged_pth(dir / "x.pth", [](auto, auto) { return true; });
  CHECK(map->tensors.empty());
  CHECK(map->problem == "which tensors it touches is not known: data.pkl, which says so, is damaged");
}

TEST_CASE("files that are no torch files have no map") {
  const TempDir dir;
  tests::write_plainly(dir / "text", "no zip at all, but long enough to hold an end record");
  tests::write_plainly(dir / "empty", "");
  CHECK_FALSE(map_damaged_pth(dir / "text", kNothing).has_value());
  CHECK_FALSE(map_damaged_pth(dir / "empty", kNothing).has_value());
  PthWriter writer;
  writer.add("a", DType::bf16, {4, 8}, std::string(64, 'a'));
  const std::string good = writer.to_bytes();
  for (std::size_t bytes = 4; bytes < good.size(); ++bytes) {  // cut anywhere
    tests::write_plainly(dir / "x.pth", good.substr(0, bytes));
    const auto map = map_damaged_pth(dir / "x.pth", kNothing);
    REQUIRE(map.has_value());
    CHECK(map->tensors.empty());
    CHECK_FALSE(map->problem.empty());
  }
}

}  // namespace sluice::format
